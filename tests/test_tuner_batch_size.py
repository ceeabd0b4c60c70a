"""A batch size that the hypermodel asks `hp` for."""

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, TRAIN, build, make, result, trials

from keras_drmad.tuners.drmad.data import SearchData

SIZES = [10, 40]


def sized(hp: keras_tuner.HyperParameters) -> keras.Model:
    hp.Choice("batch_size", SIZES)
    return build(hp)


def search(tuner: Any, data: Any = TRAIN, **arguments: Any) -> Any:
    tuner.search(*data, **{"validation_data": HYPER, "epochs": 2, "verbose": 0, **arguments})
    return tuner


def steps(tuner: Any) -> dict[int, int]:
    """Training steps of trials, by their batch size."""
    found = {t.hyperparameters.values["batch_size"]: t.trial_id for t in trials(tuner)}
    return {size: result(tuner, trial_id).steps for size, trial_id in found.items()}


def test_each_configuration_trains_in_batches_of_its_size(tmp_path: Any) -> None:
    tuner = make(tmp_path, sized, max_trials=2, meta_iterations=1, keep_checkpoints=2)
    search(tuner)
    assert steps(tuner) == {10: 16, 40: 4}


@pytest.mark.slow
def test_a_size_that_is_asked_for_is_as_one_that_is_given(tmp_path: Any) -> None:
    tuner = search(make(tmp_path, sized, max_trials=1))
    first = trials(tuner)[0]
    size = first.hyperparameters.values["batch_size"]
    given = search(make(tmp_path, max_trials=1, project_name="given"), batch_size=size)
    assert trials(given)[0].score == pytest.approx(first.score, rel=1e-5)


@pytest.mark.slow
def test_learned_schedules_and_folds_follow_the_batch_size(tmp_path: Any) -> None:
    """A schedule of 16 steps has 4 knots, one of 4 steps has 2."""
    tuner = make(tmp_path, sized, max_trials=6, meta_iterations=3, online=True, keep_checkpoints=6)
    search(tuner, epochs=4, validation_data=None, folds=2)
    assert steps(tuner) == {10: 16, 40: 4}
    for trial in trials(tuner):
        model = tuner.load_model(trial)
        assert model.optimizer.schedule.steps == result(tuner, trial.trial_id).steps
        assert np.isfinite(model.evaluate(*HYPER, verbose=0)).all()


@pytest.mark.slow
def test_a_configuration_that_is_too_short_for_the_horizon_says_so(tmp_path: Any) -> None:
    tuner = search(make(tmp_path, sized, max_trials=4, meta_iterations=2, horizon=5))
    ended = {t.hyperparameters.values["batch_size"]: t for t in trials(tuner)}
    assert ended[10].status == "COMPLETED" and ended[40].status == "FAILED"
    assert "`horizon` must be at most the 4 steps" in ended[40].message
    assert sum(t.status == "FAILED" for t in trials(tuner)) == 1


def test_batches_of_a_size_of_their_own_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="`batch_size` must be left out: the hypermodel asks"):
        search(make(tmp_path, sized), batch_size=10)
    stream = tf.data.Dataset.from_tensor_slices(TRAIN).batch(10)
    with pytest.raises(ValueError, match="needs training data in arrays"):
        search(make(tmp_path, sized), data=(stream,))


def test_a_size_must_be_a_number() -> None:
    data = SearchData(TRAIN, HYPER, None, None, True, 1)
    assert data.of({"units": 3}) is data and data.of({"batch_size": 16}).steps(1) == 5
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        data.of({"batch_size": "16"})
