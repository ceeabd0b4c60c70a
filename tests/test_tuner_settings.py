"""Settings that may change when a search goes on, and what they do then."""

import inspect
from typing import Any

import keras
import keras_tuner
import pytest
from drmad_task import make, scores, search
from oracle_trials import end, place
from oracle_trials import make as make_oracle

from keras_drmad.tuners import DrMADOracle, DrMADTuner, QANOracle, QANTuner
from keras_drmad.tuners.drmad.place import GRADIENT_NUMBER, ITERATION
from keras_drmad.tuners.storage import files, settings


def test_some_settings_may_change_and_are_logged(tmp_path: Any, caplog: Any) -> None:
    path = str(tmp_path / "settings.json")
    before = {"epochs": 2, "patience": 3, "outer": {"beta": 1.0}}
    settings.write(path, before)
    settings.write(path, before)
    assert not caplog.text
    now = {"epochs": 2, "patience": 5, "outer": {"beta": 2.0}}
    with pytest.raises(ValueError, match=r"settings: outer.beta: 1.0 before, 2.0 now\. Use"):
        settings.check(path, now, changeable=("patience",))
    settings.check(path, now, changeable=("patience", "outer"))
    settings.write(path, now)
    assert "other settings: outer.beta: 1.0 before, 2.0 now; patience: 3 before, 5" in caplog.text
    assert files.read_json(path) == now


def test_a_search_goes_on_with_what_may_change(tmp_path: Any, caplog: Any) -> None:
    search(make(tmp_path, max_trials=1))
    more = {"patience": 5, "return_after": None, "meta_iterations": 9, "prunes": False}
    more["meta_optimizer"] = keras.optimizers.RMSprop(0.2, epsilon=1e-12)
    free = {"keep_checkpoints": 2, "timeout": 9.0}
    changed = search(make(tmp_path, max_trials=2, **more, **free), validation_batch_size=7)
    assert len(scores(changed)) == 2
    for name in more:
        assert f"{name}: " in caplog.text or f"{name}.learning_rate: 0.1" in caplog.text
    assert "validation" not in caplog.text and "timeout" not in caplog.text
    with pytest.raises(ValueError, match=r"epochs: 2 before, 3 now\. Use them"):
        search(make(tmp_path, max_trials=2), epochs=3)
    with pytest.raises(ValueError, match=r"meta_optimizer.class: 'RMSprop' before"):
        search(make(tmp_path, max_trials=2, meta_optimizer=keras.optimizers.SGD(0.1)))
    falling = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    with pytest.raises(ValueError, match=r"meta_optimizer.learning_rate_schedule: None before"):
        search(make(tmp_path, meta_optimizer=keras.optimizers.RMSprop(falling, epsilon=1e-12)))
    with pytest.raises(ValueError, match=r"data.batch_size: 10 before, 20 now"):
        search(make(tmp_path, max_trials=2), batch_size=20)


def test_the_parts_of_the_training_data_stay(tmp_path: Any) -> None:
    parts = {"shard": True, "max_trials": 4}
    with_two = make(tmp_path, gradients_per_step=2, **parts).settings
    with_four = make(tmp_path, gradients_per_step=4, **parts).settings
    assert with_two["shard"] != with_four["shard"]
    assert make(tmp_path).settings["shard"] is False


@pytest.mark.parametrize("before, now, places", [(3, 1, [0, 1]), (1, 3, [0, 1, 2])])
def test_a_meta_iteration_takes_as_many_trainings_as_now(
    tmp_path: Any, before: int, now: int, places: list[int]
) -> None:
    oracle = make_oracle(tmp_path, gradients_per_step=before)
    begun = [oracle.create_trial(name) for name in "ab"[:before]]
    again = make_oracle(tmp_path, gradients_per_step=now)
    again.reload()
    for name in "ab"[: len(begun)]:
        end(again, again.create_trial(name))
    while place(trial := again.create_trial("a"))[1] == 0:
        end(again, trial)
    first = [t.hyperparameters.values for t in again.trials.values()]
    assert [v[GRADIENT_NUMBER] for v in first if v[ITERATION] == 0] == places
    assert place(trial) == (0, 1, 0)


def test_patience_is_that_of_now(tmp_path: Any) -> None:
    oracle = make_oracle(tmp_path)
    for score in (1.0, 2.0, 3.0):
        end(oracle, oracle.create_trial("a"), score=score)
    again = make_oracle(tmp_path, patience=2)
    again.reload()
    assert again.create_trial("a").status == "STOPPED"


def test_an_outer_oracle_explores_as_it_is_told_now(tmp_path: Any) -> None:
    def outer(beta: float) -> keras_tuner.Oracle:
        return keras_tuner.oracles.BayesianOptimizationOracle(max_trials=None, seed=0, beta=beta)

    options: Any = {"space": True, "meta_iterations": 1}
    oracle = make_oracle(tmp_path, outer_oracle=outer(1.0), **options)
    end(oracle, oracle.create_trial("a"))
    again = make_oracle(tmp_path, outer_oracle=outer(50.0), **options)
    again.reload()
    assert again.outer.oracle.beta == 50.0 and len(again.outer.oracle.trials) == 1
    assert again.settings()["outer_oracle_settings"]["beta"] == 50.0


@pytest.mark.parametrize(("tuner", "oracle"), [(DrMADTuner, DrMADOracle), (QANTuner, QANOracle)])
def test_a_tuner_takes_what_its_oracle_takes(tuner: type, oracle: type) -> None:
    """With the same defaults; what KerasTuner's oracles take on top is named by the tuners."""
    ours, theirs = (inspect.signature(of).parameters for of in (tuner, oracle))
    named = {name: of.default for name, of in theirs.items() if of.kind is not of.VAR_KEYWORD}
    assert {name: ours[name].default for name in named} == named
    assert ours["max_consecutive_failed_trials"].default == 3
