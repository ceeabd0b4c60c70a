"""Files of a search, a policy or a path that are truncated or gone: named, or gone on without."""

import json
import os
import pathlib

import numpy as np
import pytest
from drmad_task import HYPER, TRAIN
from drmad_task import make as make_search
from oracle_trials import end, make, place, rate
from test_qan_learner import REACHED, learner, resumed, trajectory

from keras_drmad import plots
from keras_drmad.tuners import Actions, Goal, Policy
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.storage import files, settings
from keras_drmad.tuners.storage.damage import DamagedFile


def truncate(path):
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[: len(content) // 2])


HOW = {"truncated": truncate, "gone": os.remove}

# -- what goes on by itself -----------------------------------------------------------------


def searched(folder, trials=3):
    oracle = make(folder)
    for _ in range(trials):
        end(oracle, oracle.create_trial("a"), score=1.0, g=0.2)
    oracle.create_trial("a")  # is in flight
    return oracle


def resume(folder):
    again = make(folder)
    again.reload()
    return again


@pytest.mark.parametrize("damage", HOW.values(), ids=HOW)
def test_a_search_goes_on_from_the_state_before(tmp_path, caplog, damage):
    """The last change was the trial in flight: it is handed out anew, with the same values."""
    oracle = searched(tmp_path)
    last = rate(oracle, oracle.trials[oracle.start_order[-1]])
    damage(oracle.project.oracle)
    again = resume(tmp_path)
    assert "oracle.json is damaged or missing" in caplog.text
    assert "goes on from the state before" in caplog.text
    assert again.end_order == oracle.end_order
    trial = again.create_trial("a")
    assert place(trial) == (0, 3, 0) and rate(again, trial) == last
    json.loads(pathlib.Path(again.project.oracle).read_text())


@pytest.mark.parametrize("damage", HOW.values(), ids=HOW)
@pytest.mark.parametrize("iteration", [1, 3])
def test_hyperparameters_that_are_lost_are_those_before(tmp_path, caplog, damage, iteration):
    oracle = searched(tmp_path, trials=iteration)
    before = rate(oracle, oracle.trials[oracle.start_order[-2]])
    damage(oracle.project.state(0, iteration))
    again = resume(tmp_path)
    assert f"meta-iteration {iteration} trains with the hyperparameters of the one" in caplog.text
    trial = again.create_trial("a")
    assert place(trial) == (0, iteration, 0) and rate(again, trial) == before
    end(again, trial, g=0.2)
    assert place(again.create_trial("a")) == (0, iteration + 1, 0)


@pytest.mark.parametrize("damage", HOW.values(), ids=HOW)
def test_a_trial_that_is_lost_has_failed(tmp_path, caplog, damage):
    oracle = searched(tmp_path)
    lost, kept = oracle.end_order[0], oracle.end_order[1]
    damage(oracle.project.trial(lost))
    again = resume(tmp_path)
    assert again.trials[lost].status == "FAILED" and again.trials[kept].status == "COMPLETED"
    assert f"Trial {lost} counts as failed" in caplog.text
    assert again.create_trial("a").trial_id == oracle.start_order[-1]


def test_a_trial_that_the_search_does_not_know_is_no_matter(tmp_path, caplog):
    oracle = searched(tmp_path)
    files.write_json(oracle.project.trial("99"), {"trial_id": "99"})
    truncate(oracle.project.trial("99"))
    assert resume(tmp_path).start_order == oracle.start_order
    assert "The search does not know this trial" in caplog.text


def test_a_worker_changes_no_file(tmp_path, monkeypatch):
    """Its chief writes them; what it has not written yet looks like damage."""
    oracle = searched(tmp_path)
    os.remove(oracle.project.state(0, 3))
    monkeypatch.setattr("keras_drmad.tuners.drmad.oracle.role", lambda: "worker")
    monkeypatch.setattr("keras_drmad.tuners.distributed.oracle.role", lambda: "worker")
    before = sorted(tmp_path.rglob("*"))
    assert resume(tmp_path).end_order == oracle.end_order
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", HOW.values(), ids=HOW)
def test_the_agent_goes_on_from_the_file_before(tmp_path, caplog, damage):
    tested, weights = learner(tmp_path), []
    for score in (1.0, 2.0, 3.0):
        tested.learn(trajectory(REACHED), 0.0, score, 4.0)
        tested.tidy(set())
        weights.append(tested.agent.network.get_weights())
    damage(tmp_path / "learner_000003.npz")
    again = resumed(tmp_path, 3)
    assert "What was learned of episodes 3 to 3 is not there" in caplog.text
    for own, other in zip(again.agent.network.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(own, other)
    assert len(again.agent.replay) == 6


def test_what_can_be_done_without_is_left_out(tmp_path, caplog):
    tested = learner(tmp_path)
    tested.take_snapshot(0)
    truncate(tmp_path / "snapshot_000000.npz")
    assert resumed(tmp_path, 0).snapshots.weights(0) is None
    assert "snapshot_000000.npz is damaged" in caplog.text


# -- what is named --------------------------------------------------------------------------


def test_a_search_without_any_state_says_how_to_go_on(tmp_path):
    oracle = searched(tmp_path)
    truncate(oracle.project.oracle)
    os.remove(oracle.project.oracle + files.BEFORE)
    match = r"oracle.json is damaged.*Lost with it: which trials.*`overwrite=True`"
    with pytest.raises(DamagedFile, match=match):
        resume(tmp_path)


def test_a_trial_in_flight_cannot_be_lost(tmp_path):
    oracle = searched(tmp_path)
    truncate(oracle.project.trial(oracle.start_order[-1]))
    with pytest.raises(DamagedFile, match=r"trial.json .*Lost with it: what this trial was"):
        resume(tmp_path)


def test_settings_that_cannot_be_read_are_named(tmp_path):
    path = str(tmp_path / "settings.json")
    settings.write(path, {"epochs": 3})
    truncate(path)
    with pytest.raises(DamagedFile, match=r"settings.json is damaged.*Delete the file"):
        settings.check(path, {"epochs": 3})
    os.remove(path)
    settings.check(path, {"epochs": 3})


@pytest.mark.parametrize(
    "name", ["result.npz", "warm_start.npz", "000001.npz", "learner_000001.npz"]
)
def test_arrays_that_cannot_be_read_are_named(tmp_path, name):
    path = str(tmp_path / name)
    files.write_arrays(path, group={"array": np.arange(100.0)})
    truncate(path)
    with pytest.raises(
        DamagedFile, match=rf"{name} is damaged or missing .*Lost with it: (?!what it)"
    ):
        files.read_arrays(path)


@pytest.fixture(scope="module")
def tuner(tmp_path_factory):
    made = make_search(tmp_path_factory.mktemp("searched"), max_trials=1)
    made.search(*TRAIN, validation_data=HYPER, verbose=0)
    return made


def test_weights_that_cannot_be_read_are_named(tuner):
    path = tuner.project.checkpoint(tuner.oracle.end_order[0])
    truncate(path)
    with pytest.raises(
        DamagedFile, match=r"weights.h5 is damaged.*Lost with it: the trained weights"
    ):
        tuner.get_best_models()
    os.remove(path)
    with pytest.raises(ValueError, match=r"are not there \(.*weights.h5\).*if the file was lost"):
        tuner.get_best_models()


def test_a_search_does_not_need_keras_tuners_own_mark(tuner, capsys):
    path = pathlib.Path(tuner.project.folder) / "tuner0.json"
    path.write_text("{")
    again = make_search(tuner.directory, max_trials=1)
    assert again.oracle.end_order == tuner.oracle.end_order and path.read_text() == "{}"


def test_a_policy_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "policy.keras"
    schedule = Schedule("constant", 0.1)
    Policy([], Actions(), Goal("val_loss", 0.1), 2, 0.02, 8, learning_rate=schedule).save(path)
    truncate(path)
    with pytest.raises(ValueError, match=r"policy.keras' is damaged, or no file.*save the policy"):
        Policy.load(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"policy.keras' is damaged, or no file"):
        Policy.load(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"There is no file .*policy.keras"):
        Policy.load(path)
    with pytest.raises(ValueError, match="`path` must be the name of a file"):
        Policy.load(5)


def test_a_snapshot_that_cannot_be_read_is_named(tmp_path):
    weights = [plots.Snapshot(step, 1.0, [np.ones(3) * step], []) for step in (0, 10, 20)]
    plots.RecordedPath(weights).save(tmp_path)
    truncate(tmp_path / "step-000000010.npz")
    with pytest.raises(ValueError, match=r"step-000000010.npz is damaged .*Delete the file"):
        plots.RecordedPath.load(tmp_path)
    os.remove(tmp_path / "step-000000010.npz")
    assert plots.RecordedPath.load(tmp_path).steps.tolist() == [0, 20]
