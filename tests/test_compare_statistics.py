"""What `compare` says of results: intervals, p-values, ranks, the expected best, verdicts, tables."""

import itertools
import math
import sys

import keras_tuner
import numpy as np
import pytest

from keras_drmad.tuners import Comparison, luck
from keras_drmad.tuners.budget import Budget
from keras_drmad.tuners.comparison import statistics
from keras_drmad.tuners.comparison.curve import curve
from keras_drmad.tuners.comparison.outcome import Choice, Outcome, TrialRecord, best

# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction, chosen", [("max", max), ("min", min)])
@pytest.mark.parametrize("scores", [[0.3, 0.9, 0.5], [0.2, 0.2, 0.7, 0.7], [1.0]])
def test_the_expected_best_is_that_of_all_draws(scores, direction, chosen):
    found = statistics.expected_best(scores, direction)
    for n in range(1, len(scores) + 1):
        draws = itertools.product(scores, repeat=n)
        assert found[n - 1] == pytest.approx(np.mean([chosen(draw) for draw in draws]))


def test_intervals_hold_what_they_should():
    """95 % of them; plain percentiles of 5 values hold some 80 %."""
    rng = np.random.default_rng(0)
    intervals = [statistics.interval(rng.normal(size=5)) for _ in range(100)]
    assert sum(low <= 0 <= high for low, high in intervals) >= 91


def test_intervals_are_those_of_t_for_many_values():
    values = np.random.default_rng(0).normal(1.0, 2.0, size=400)
    low, high = statistics.interval(values)
    half = 1.97 * luck.standard_error(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_noise_is_not_called_a_win():
    rng, wins, repeats = np.random.default_rng(0), 0, 60
    for _ in range(repeats):
        results = {name: dict(enumerate(rng.normal(size=5))) for name in "abcd"}
        wins += any(d.is_clear for d in statistics.differences(results, "max"))
    assert wins <= 0.1 * repeats


def test_a_large_difference_is_clear():
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 5))
    results = {"a": dict(enumerate(noise[0])), "b": dict(enumerate(1 + noise[1]))}
    (found,) = statistics.differences(results, "min")
    assert (found.better, found.other, found.is_clear) == ("a", "b", True)
    assert found.low < 1 < found.high
    (other,) = statistics.differences(results, "max")
    assert (other.better, other.mean) == ("b", pytest.approx(found.mean))


def test_differences_are_of_the_same_seeds():
    results = {"a": {0: 1.0, 1: 2.0}, "b": {1: 1.5, 2: 9.0}, "c": {}}
    (found,) = statistics.differences(results, "max")
    assert (found.better, found.mean, found.seeds) == ("a", 0.5, 1)
    assert math.isnan(found.low) and not found.is_clear


def test_equal_differences_of_a_few_seeds_are_not_clear():
    """Of a metric with few values, such as an accuracy: t would be infinite."""
    steps = np.array([0.0, 0.02, 0.04, 0.02, 0.0])  # of 50 test samples
    results = {"a": dict(enumerate(steps + 0.52)), "b": dict(enumerate(steps + 0.5))}
    (found,) = statistics.differences(results, "max")
    assert not found.is_clear
    for count, clear in ((3, False), (5, False), (8, True)):
        results = {"a": dict.fromkeys(range(count), 0.5), "b": dict.fromkeys(range(count), 0.4)}
        (found,) = statistics.differences(results, "max")
        assert found.is_clear == clear


def test_ranks_are_means_over_seeds():
    results = {"a": {0: 3.0, 1: 1.0}, "b": {0: 2.0, 1: 1.0}, "c": {0: 1.0, 1: 0.0}}
    assert statistics.ranks(results, "max") == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert statistics.ranks(results, "min") == {"a": 2.75, "b": 2.25, "c": 1.0}


@pytest.mark.parametrize(
    "scores, direction, index",
    [
        ([2.0, 1.0, 1.0], "min", 1),
        ([2.0, 1.0], "max", 0),
        ([None, math.inf, 3.0], "min", 2),
        ([-math.inf, -1.0, None], "max", 1),
        ([None, math.nan], "min", None),
        ([], "min", None),
    ],
)
def test_the_best_score_is_finite(scores, direction, index):
    assert best(scores, direction) == index


# -- comparisons that nothing was trained for ----------------------------------------------------


def outcome(method, seed, value, scores=(0.5, 0.8), error=None):
    if value is None:
        return Outcome(method, seed, error=error or "Traceback:\nValueError: <nonsense>")
    trials = [TrialRecord(f"{i}", s, 1.0, 2.0, {"rate": 0.1}) for i, s in enumerate(scores)]
    choices = {"2.0": Choice(len(trials), "1", 0.8, {"accuracy": value})}
    return Outcome(method, seed, 1.0, trials, choices)


def comparison(values, budget=2.0, warnings=()):
    """Of `{method: a value a seed}`; None has failed."""
    seeds = list(range(len(next(iter(values.values())))))
    outcomes = [outcome(m, s, v) for m, of in values.items() for s, v in enumerate(of)]
    tuner = {"tuner": "RandomSearch", "is_random": True}
    settings = {"methods": dict.fromkeys(values, tuner), "epochs": 1}
    whole = Budget(budget, "trainings")
    objective, metric = (keras_tuner.Objective(n, "max") for n in ("val_accuracy", "accuracy"))
    return Comparison(list(values), seeds, whole, objective, metric, outcomes, warnings, settings)


NOISE = (0.01, -0.02, 0.0, 0.02, -0.01)
GOOD, LIKE_IT, BAD = (
    [mean + sign * n for n in NOISE] for mean, sign in ((0.9, 1), (0.895, -1), (0.5, 1))
)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"a": GOOD, "b": LIKE_IT}, "No winner: 'a' has the best mean accuracy"),
        ({"a": GOOD, "b": BAD}, "'a' has the best accuracy, and the difference to each other"),
        (
            {"a": BAD, "b": LIKE_IT, "c": GOOD},
            "'c' has the best mean accuracy. It is clearly better than 'a'. Its difference to 'b' is "
            "within the noise of 5 seeds.",
        ),
        ({"a": GOOD[:1], "b": BAD[:1]}, "Nothing can be said of noise"),
        ({"a": GOOD[:2], "b": BAD[:2]}, "take 3 seeds or more"),
        ({"a": GOOD}, "'a' is alone"),
        ({"a": GOOD, "b": [*BAD[:3], None, None]}, "'b' has no result with 2 of 5 seeds"),
        ({"a": GOOD, "b": [None] * 5}, "'a' is the only one with a result. 'b' has no result."),
        ({"a": [None, None], "b": [None, None]}, "No method has a result."),
    ],
)
def test_verdicts(values, words):
    assert words in comparison(values).verdict()


def test_rows_are_ordered_and_count():
    rows = comparison({"a": BAD, "b": GOOD, "c": [None] * 5}).rows()
    assert [row.method for row in rows] == ["b", "a", "c"]
    assert rows[0].mean == pytest.approx(0.9)
    assert rows[0].error == pytest.approx(np.std(GOOD, ddof=1) / 5**0.5)
    assert (rows[0].spent, rows[0].unused, rows[0].overspent, rows[0].seconds) == (2, 0, 0, 4)
    assert rows[2].missing == [0, 1, 2, 3, 4] and math.isnan(rows[2].mean)


def test_what_was_overspent_is_shown():
    found = comparison({"a": GOOD}, budget=2.0)
    for one in found.outcomes:
        one.trials[1] = TrialRecord("1", 0.8, 1.5, 2.0, {})
    row = found.rows()[0]
    assert (row.spent, row.unused, row.overspent) == (2.5, 0.0, 0.5)
    assert "'a' has had 0.5 trainings more than the budget" in found.verdict()


def test_a_table_says_it_all(capsys):
    values = {"a": GOOD, "b": BAD, "c": [None] * 5}
    found = comparison(values, warnings=["Beware."])
    found.table()
    text = capsys.readouterr().out
    assert text.strip() == str(found)
    assert "| a | 0.9 ± 0.0071 |" in text
    assert "| c | no result |" in text
    assert "'c', seed 4: ValueError: <nonsense>" in text
    assert "'a' over 'b'" in text and "Warning: Beware." in text


def test_any_name_is_in_tables_and_pictures(tmp_path, recwarn):
    names = ["_first", "a|b", "costs $5 or $x_$", "long " * 50]
    found = comparison(dict.fromkeys(names[:3], GOOD) | {names[3]: [None] * 5})
    table = str(found)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {10}
    found.plot(tmp_path / "new" / "picture.png")
    assert not [one for one in recwarn if "layout" in str(one.message)]
    with pytest.raises(ValueError, match=r"`method` must be .*Received: method='other'"):
        found.expected_best("other")


def test_curves_are_means_over_seeds():
    outcomes = [outcome("a", 0, 1.0, (0.2, 0.6)), outcome("a", 1, 1.0, (0.4, None))]
    ordered = curve(outcomes, "trainings", 4.0, "max", is_random=False)
    assert ordered.spent.tolist() == [1, 2, 4]
    assert ordered.mean.tolist() == pytest.approx([0.3, 0.5, 0.5])
    assert ordered.error[0] == pytest.approx(0.1)
    expected = curve(outcomes, "trainings", 4.0, "max", is_random=True)
    assert expected.mean.tolist() == pytest.approx([0.4, 0.45, 0.45])
    assert curve([outcome("a", 0, None)], "trainings", 4.0, "max", False) is None


def test_a_report_is_one_file(tmp_path):
    found = comparison({"<i>a</i>": GOOD, "b": BAD, "c": [None] * 5}, warnings=["Beware & see."])
    path = tmp_path / "folder" / "report.html"
    found.report(str(path))
    text = path.read_text()
    assert "&lt;i&gt;a&lt;/i&gt;" in text and "<i>a</i>" not in text
    assert "Beware &amp; see." in text
    assert "data:image/png;base64," in text
    assert "http" not in text and "src='data" in text  # needs nothing else
    assert "ValueError: &lt;nonsense&gt;" in text
    assert f"numpy {np.__version__}" in text and "rate = 0.1" in text


def test_a_plot_is_a_figure_and_a_file(tmp_path):
    figure = comparison({"a": GOOD, "b": BAD, "c": [None] * 5}).plot(str(tmp_path / "plot.png"))
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b", "c\n(no result)"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["a", "b"]
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "module, call",
    [
        ("matplotlib.pyplot", lambda c, f: c.plot()),
        ("matplotlib.pyplot", lambda c, f: c.report(str(f / "report.html"))),
        ("scipy.stats", lambda c, f: c.table()),
    ],
)
def test_without_a_package_the_extra_is_named(tmp_path, monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras_drmad\[(compare|plots)\]"):
        call(comparison({"a": GOOD, "b": BAD}), tmp_path)
