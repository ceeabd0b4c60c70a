"""`DrMADTuner(averages=True)`: the mean of the last weights stays where it is better."""

import numpy as np
import pytest
from drmad_task import HYPER, build, make, search, trials

from keras_drmad import paths
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, LEARN, STAGE


def noisy(hp):
    """A rate at which the last weights go up and down."""
    return build(hp, learning_rate=0.6, momentum=0.0, learn=("l2",))


def test_the_mean_of_the_last_weights_stays_where_it_is_better(tmp_path):
    arguments = {"max_trials": 3, "keep_checkpoints": 3, "online": False}
    without, averaged = (
        search(make(tmp_path / str(flag), noisy, averages=flag, **arguments), epochs=8)
        for flag in (False, True)
    )
    chosen = [trial.metrics.get_best_value("averaged") for trial in trials(averaged)]
    assert 1.0 in chosen and without.oracle.trials["0"].metrics.exists("averaged") is False
    first = chosen.index(1.0)
    if first == 0:  # the same training
        assert trials(averaged)[0].score < trials(without)[0].score
    for trial in trials(averaged):
        model = averaged.load_model(trial)
        loss = model.evaluate(*HYPER, verbose=0)[0]
        np.testing.assert_allclose(loss, trial.score, rtol=1e-5)


def test_what_learns_while_it_trains_says_what_the_model_has(tmp_path):
    tuner = make(tmp_path, max_trials=3, keep_checkpoints=3, online=True, averages=True)
    search(tuner, epochs=4)
    stages = [trial.hyperparameters.values[STAGE] for trial in trials(tuner)]
    assert stages == [LEARN, LEARN, DIFFERENTIATE]
    for trial in trials(tuner):
        loss = tuner.load_model(trial).evaluate(*HYPER, verbose=0)[0]
        np.testing.assert_allclose(loss, trial.score, rtol=1e-5)


@pytest.mark.parametrize("path", [paths.Stored(), paths.Linear(), paths.Checkpointed()])
def test_other_paths_keep_no_means(tmp_path, path):
    with pytest.raises(ValueError, match=r"`averages=True` needs a path that keeps means"):
        make(tmp_path, path=path, averages=True)
