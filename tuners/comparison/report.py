"""The report of a comparison: one HTML file."""

import base64
import html
import importlib.metadata
import io
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Sequence

from keras_drmad.plots.extras import load
from keras_drmad.typing import JsonObject

from ..storage import files
from . import figure, table
from .standings import Standings
from .statistics import EXTRA
from .verdict import in_words

PACKAGES = ("keras_drmad", "tensorflow", "keras", "keras-tuner", "optuna", "numpy", "scipy")

MOST_VALUES = 12  # hyperparameters of a trial that are shown

STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; }
.verdict { border-left: 4px solid #0072B2; padding: .2rem 1rem; }
.warning { border-left: 4px solid #D55E00; padding: .2rem 1rem; }
"""


def write(standings: Standings, path: str) -> None:
    """Writes the report, all or nothing."""
    document = (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Comparison</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(_sections(standings))
        + "\n</body></html>\n"
    )
    whole = os.path.abspath(path)
    with files.replaced(whole) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(document)


def _sections(standings: Standings) -> Iterable[str]:
    budget = standings.budget
    yield f"<h1>Comparison of {len(standings.methods)} methods</h1>"
    yield f"<p class='verdict'>{html.escape(standings.verdict())}</p>"
    yield from (f"<p class='warning'>{html.escape(w)}</p>" for w in standings.warnings)
    yield f"<img alt='Results, and the expected best over the budget' src='{_picture(standings)}'>"
    yield (
        "<p>Left: each seed, and mean ± standard error on the test data, which have judged once what "
        "the validation data have chosen. Right: the expected best on the validation data over what "
        "was spent, with the standard error over seeds.</p>"
    )
    for amount in budget.amounts:
        yield f"<h2>Within {budget.words(amount)}</h2>"
        yield _table(*table.cells(standings, amount))
        if amount != budget.amount:
            yield f"<p>{html.escape(standings.verdict(amount))}</p>"
    yield "<h2>Differences, on the same seeds</h2>"
    yield (
        "<p>With 95 % bootstrap intervals over seeds. Clear is what is above 0 in its interval, and has "
        "p below 5 % in a paired t-test, adjusted for all pairs. Other test data might say something "
        "else: intervals over seeds do not know of that.</p>"
    )
    yield _list(map(in_words, standings.differences()))
    yield "<h2>Chosen</h2>"
    yield _table(["method", "seed", "validation", "test", "hyperparameters"], *_chosen(standings))
    if errors := table.errors(standings):
        yield "<h2>Errors</h2>"
        yield _list(errors)
    yield "<h2>Settings</h2>"
    text = json.dumps(standings.settings, indent=2, default=str, ensure_ascii=False)
    yield f"<details><summary>All of them</summary>{_pre(text)}</details>"
    yield "<h2>To repeat it</h2>"
    yield _pre(f"{shlex.join(['python', *sys.argv])}\n\n{_versions()}")
    yield f"<p>Written {time.strftime('%Y-%m-%d %H:%M')}.</p>"


def _picture(standings: Standings) -> str:
    drawn, file = figure.draw(standings), io.BytesIO()
    drawn.savefig(file, format="png", dpi=130)
    load("matplotlib.pyplot", EXTRA).close(drawn)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _chosen(standings: Standings) -> Iterable[list[str]]:
    for outcome in standings.outcomes:
        choice = outcome.choices.get(str(standings.budget.amount))
        if choice is None:
            continue
        trial = next(t for t in outcome.trials if t.trial_id == choice.trial_id)
        tested = choice.test.get(standings.metric.name)
        yield [
            outcome.method,
            str(outcome.seed),
            f"{choice.score:.4g}",
            "–" if tested is None else f"{tested:.4g}",
            _values(trial.values),
        ]


def _values(values: JsonObject) -> str:
    parts = [f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in values.items()]
    more = len(parts) - MOST_VALUES
    return ", ".join(parts[:MOST_VALUES]) + (f", and {more} more" if more > 0 else "")


def _versions() -> str:
    lines = [f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(lines)


def _table(head: Sequence[str], *rows: Sequence[str]) -> str:
    lines = [_line("th", head), *(_line("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _pre(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"
