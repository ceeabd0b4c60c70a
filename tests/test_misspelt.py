"""Misspelt keyword arguments: the error says which one may be meant."""

import functools
import inspect

import pytest
from drmad_task import X, build
from drmad_task import make as make_drmad
from qan_task import make as make_qan

from keras_drmad import DrMADAdamW, DrMADSGD, LearnHyperparameters, hypergradient, paths, plots
from keras_drmad.tuners import DrMADOracle, Goal, Method, OptunaOracle, compare


@pytest.mark.parametrize(
    "call, given, meant",
    [
        (DrMADSGD, "momentums", "momentum"),
        (DrMADAdamW, "weight_decays", "weight_decay"),
        (DrMADSGD, "clipnom", "clipnorm"),  # Keras's own
        (LearnHyperparameters, "horizons", "horizon"),
        (hypergradient, "step", "steps"),
        (plots.RecordPath, "max_snapshot", "max_snapshots"),
        (plots.FilterAnimation, "max_frame", "max_frames"),
        (plots.interpolation, "point", "points"),
        (paths.SegmentMeans, "knot", "knots"),
        (OptunaOracle, "max_trial", "max_trials"),
        (DrMADOracle, "max_trial", "max_trials"),
        (compare, "epoch", "epochs"),
        (functools.partial(Method, build), "tunr", "tuner"),
        (Goal, "directions", "direction"),
    ],
)
def test_misspelt_keywords_are_corrected(call, given, meant):
    with pytest.raises((TypeError, ValueError), match=f"Did you mean '{meant}'"):
        call(**{given: 3})


@pytest.mark.parametrize("make", [make_drmad, make_qan])
def test_misspelt_keywords_of_a_search_are_corrected(tmp_path, make):
    with pytest.raises(ValueError, match=r"max_trial.*Did you mean 'max_trials'"):
        make(tmp_path, max_trial=3)
    with pytest.raises(ValueError, match=r"overwrit.*Did you mean 'overwrite'"):  # KerasTuner's
        make(tmp_path, overwrit=True)
    with pytest.raises(ValueError, match=r"`epoch`: Did you mean 'epochs'"):
        make(tmp_path).search(X, epoch=3)


def test_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match=r"Received: 2.0$"):
        DrMADSGD(momentum=2)
    assert inspect.signature(DrMADSGD).parameters["momentum"].default == 0.9
