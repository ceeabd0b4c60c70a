"""Sets of actions: what they may hold, and which of them is nearest."""

import pytest

from keras_drmad.tuners import Actions


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"learning_rate": ()}, "at least one"),
        ({"learning_rate": (1.0,)}, "nothing to decide"),
        ({"learning_rate": (0.5, -1)}, "must be more than 0.*-1"),
        ({"bounds": (1, 0.1)}, "bounds"),
        ({"sample_selection": ("worst",)}, "sample_selection"),
        ({"per": "unit"}, "per"),
        ({"learning_rate": (0.5, 0.5, 1)}, r"`learning_rate` must hold nothing twice"),
        ({"momentum": (1, 1)}, "`momentum` must hold nothing twice"),
        ({"learning_rate": 2.0}, "`learning_rate` must hold multipliers.*2.0"),
        ({"momentum": 1.0}, "`momentum` must hold multipliers"),
        ({"momentum": ("a",)}, "`momentum` must be more than 0.*'a'"),
        ({"bounds": 1.0}, r"`bounds` must be \(low, high\).*1.0"),
        ({"bounds": (0, 1)}, "`bounds` must be more than 0"),
        (
            {"sample_selection": ("uniform", "uniform")},
            "`sample_selection` must hold nothing twice",
        ),
        (
            {"per": "layer", "sample_selection": ("uniform", "hardest")},
            "leaves `sample_selection` out",
        ),
        ({"per": "layer", "sample_selection": ("hardest",)}, "leaves `sample_selection` out"),
    ],
)
def test_bad_actions_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Actions(**arguments)


def test_the_nearest_action_is_usable_if_it_is_near():
    actions = Actions()
    assert actions.nearest(1.02) == (2, True)
    assert actions.nearest(0.1) == (0, False)


def test_schedules_are_remembered_as_what_they_did():
    uniform, usable = Actions(sample_selection=("hardest", "uniform")).nearest(1.0)
    assert usable and Actions(sample_selection=("hardest", "uniform")).all[uniform][2] == "uniform"
    hardest, usable = Actions(sample_selection=("hardest", "newest")).nearest(1.0)
    assert (
        not usable and Actions(sample_selection=("hardest", "newest")).all[hardest][2] == "hardest"
    )
