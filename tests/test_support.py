"""The table of `docs/reference/support.md` says what the code does, row by row."""

import contextlib
import pathlib
import re

import keras
import numpy as np
import pytest
from support_cases import CASES

STEPS_ARE_CHECKED = True

TABLE = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "support.md"
VERDICTS = ("right", "refused")


def rows() -> dict[str, tuple[str, str]]:
    """`{kind: (verdict, why)}`."""
    found: dict[str, tuple[str, str]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[1] in VERDICTS:
            assert cells[0] not in found, f"twice in the table: {cells[0]}"
            found[cells[0]] = (cells[1], cells[2])
    return found


def test_every_row_has_a_case_and_every_case_a_row() -> None:
    assert set(rows()) == set(CASES)


@pytest.mark.parametrize("kind", rows())
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Keras's word about idle weights
def test_the_table_is_true(
    kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    verdict, why = rows()[kind]
    words = re.findall(r'"([^"]+)"', why)  # of the error
    assert bool(words) == (verdict == "refused"), "what is refused quotes its error"
    for case in CASES[kind]:
        scope = contextlib.nullcontext()
        if case.replicas:
            scope = request.getfixturevalue("two_replicas").scope()
        keras.utils.set_random_seed(0)
        with scope:
            model = case.model()
        if verdict == "right":
            case.run(model)
            assert "skipped" not in caplog.text
            continue
        before = model.get_weights()
        with pytest.raises(ValueError) as error:
            case.run(model)
        for part in words:
            assert part in str(error.value)
        for value, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(value, now)
