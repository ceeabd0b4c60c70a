"""Objectives have a direction: KerasTuner would lower metrics of which more is better."""

import keras_tuner
import pytest

from keras_drmad.tuners import DrMADOracle, OptunaOracle
from keras_drmad.tuners.comparison.comparison import _objective


def of_compare(objective):
    return _objective("objective", objective)


def of_oracle(kind):
    return lambda objective: kind(objective=objective).objective


MAKERS = {
    "DrMADOracle": of_oracle(DrMADOracle),
    "OptunaOracle": of_oracle(OptunaOracle),
    "compare": of_compare,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "metric, direction",
    [
        ("val_r2_score", "max"),
        ("val_f1_score", "max"),
        ("val_mean_io_u", "max"),  # at which KerasTuner fails with a TypeError
        ("val_cosine_similarity", "max"),
        ("val_precision_at_recall", "max"),
        ("val_accuracy", "max"),
        ("val_mae", "min"),
        ("loss", "min"),
    ],
)
def test_directions_are_those_of_the_metrics(make, metric, direction):
    assert make(metric).direction == direction


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_direction_that_is_given_counts(make):
    assert make(keras_tuner.Objective("val_r2_score", "min")).direction == "min"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_directions_that_are_not_known_are_asked_for(make):
    with pytest.raises(
        ValueError, match=r"`objective`.*Objective\('val_mine', \"max\"\).*Received"
    ):
        make("val_mine")


@pytest.mark.parametrize("kind", [DrMADOracle, OptunaOracle])
def test_each_of_several_has_its_direction(kind):
    objectives = kind(objective=["val_r2_score", "val_loss"]).objective.objectives
    assert [one.direction for one in objectives] == ["max", "min"]
