"""`QANOracle`, by messages of workers that are not there."""

import dataclasses
import pathlib

import numpy as np
import pytest
from qan_task import GOAL, training

from keras_drmad.tuners import QANOracle
from keras_drmad.tuners.distributed.guard import Refused
from keras_drmad.tuners.qan.decision_channel import (
    KIND,
    DecisionChannel,
    Question,
    encode,
    send,
)
from keras_drmad.tuners.qan.search.episode import RANDOM, SCHEDULE, TEST, TRAIN, Episode
from keras_drmad.tuners.qan.training.report import REACHED, STOP
from keras_drmad.tuners.storage import files


@pytest.fixture
def oracle(tmp_path):
    return an_oracle(tmp_path)


def an_oracle(folder):
    oracle = QANOracle(
        goal=GOAL,
        max_trials=12,
        schedule_trials=2,
        contest=1,
        seed=0,
        network={"units": (8,)},
        agent={"jit_compile": False},  # to compile would take longer than all else
    )
    oracle._set_project_dir(str(folder), "p")
    return oracle


@pytest.fixture(scope="module")
def reports():
    """Of a training, 16 steps, that has missed its goal."""
    return training(goal=("val_loss", 1e-9)).run(0, lambda report: 0.01)[0]


def asked(oracle, trial, reports, beginning=0):
    return [
        send(oracle, trial.trial_id, Question(beginning, number, report, 16))
        for number, report in enumerate(reports)
    ]


def bring_all(oracle, trial, reports):
    asked(oracle, trial, reports)
    bring(oracle, trial)


def bring(oracle, trial, **metrics):
    oracle.update_trial(trial.trial_id, {"steps_to_goal": 16.0} | metrics)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def test_decisions_do_not_grow_the_trial(oracle, reports):
    trial = oracle.create_trial("w")
    size = len(str(oracle.get_trial(trial.trial_id).get_state()))
    assert all(isinstance(of, list) for of in asked(oracle, trial, reports))
    assert len(str(oracle.get_trial(trial.trial_id).get_state())) == size


def test_an_episode_that_takes_much_longer_than_the_best_schedule_is_stopped_early(oracle, reports):
    hit = [*reports[:-1], dataclasses.replace(reports[-1], ended=REACHED)]
    while (trial := oracle.create_trial("w")).hyperparameters.values[KIND] != TRAIN:
        asked(oracle, trial, hit)
        bring(oracle, trial, steps_to_goal=6.0)
    assert [report.step for report in reports[:4]] == [0, 3, 6, 8]
    assert [answer == STOP for answer in asked(oracle, trial, reports[:4])] == [False] * 3 + [True]
    bring(oracle, trial)
    episode = oracle.curriculum.episodes[int(trial.trial_id)]
    assert (episode.ended, episode.hit) == ("truncated", False)


class Line:
    """To an oracle that may be another one after a while."""

    def __init__(self, oracle):
        self.oracle, self.calls = oracle, 0

    def update_trial(self, *arguments, **named):
        self.calls += 1
        return self.oracle.update_trial(*arguments, **named)


@pytest.mark.parametrize("kind", [SCHEDULE, RANDOM, TEST])
def test_an_oracle_that_was_started_again_is_told_what_it_has_forgotten(
    tmp_path, reports, kind, monkeypatch
):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")  # so trainings in flight stay in flight

    def asked(restarted_at):
        folder = tmp_path / str(restarted_at)
        line, worker = Line(an_oracle(folder)), 0
        while (trial := line.oracle.create_trial(f"w{worker}")).hyperparameters.values[
            KIND
        ] != kind:
            bring_all(line.oracle, trial, reports)
            worker += 1
        channel = DecisionChannel(line, trial.trial_id, 16)
        for number, report in enumerate(reports):
            if number == restarted_at:
                line.oracle, line.calls = an_oracle(folder), 0
                line.oracle.reload()
            channel.ask(report)
        return line.oracle._ended(trial.trial_id).history(), line.calls

    (whole, _), (again, calls) = asked(None), asked(3)
    assert calls == 1 + 3 + len(reports) - 3
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values)


def test_of_two_trainings_of_a_trial_the_first_that_ends_counts(oracle, reports):
    trial = oracle.create_trial("w")
    asked(oracle, trial, reports[:3], beginning=1)
    asked(oracle, trial, reports[:1], beginning=2)  # by another worker
    for number, report in enumerate(reports[3:], start=3):
        send(oracle, trial.trial_id, Question(1, number, report, 16))
    bring(oracle, trial)
    assert oracle.curriculum.episodes[0].cost == 16.0
    assert send(oracle, trial.trial_id, Question(2, 1, reports[1], 16)) == STOP
    bring(oracle, trial, steps_to_goal=3.0)
    assert oracle.curriculum.episodes[0].cost == 16.0


@pytest.mark.parametrize(
    "change",
    [
        *[{"qan/number": float("nan")}, {"qan/ended": 9.0}, {"qan/state/99": 0.0}],
        *[{"qan/state/0": 1e300}, {"qan/budget": 0.0}],
    ],
)
def test_a_malformed_report_is_refused_alone(oracle, reports, change):
    trial = oracle.create_trial("w")
    message = encode(Question(0, 0, reports[0], 16))
    with pytest.raises(Refused, match=r"report"):
        oracle.update_trial(trial.trial_id, message | change)
    del message["qan/step"]
    with pytest.raises(Refused, match=r"no report.*qan/step"):
        oracle.update_trial(trial.trial_id, message)
    for actions in ([99], [-1], [0, 0]):
        with pytest.raises(Refused, match="actions that there are not"):
            send(oracle, trial.trial_id, Question(0, 0, reports[0], 16, actions))
    assert not oracle.broken
    asked(oracle, trial, reports)
    bring(oracle, trial)


def test_an_episode_whose_decisions_died_with_a_chief_is_told_again(tmp_path, reports, monkeypatch):
    """Between the last of them and the end of the trial."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    first = an_oracle(tmp_path)
    trial = first.create_trial("w")
    line = Line(first)
    channel = DecisionChannel(line, trial.trial_id, 16)
    for report in reports:
        channel.ask(report)
    line.oracle = chief = an_oracle(tmp_path)
    chief.reload()
    bring(chief, trial)
    assert chief.learner.learned == 0
    again = chief.create_trial("w")
    assert again.trial_id == trial.trial_id
    channel.tell_again()
    bring(chief, again)
    assert chief.learner.learned == 1 and chief.curriculum.episodes[0].cost == 16.0


def test_snapshots_that_could_not_be_written_are_written_later(oracle, monkeypatch):
    def full(*arguments, **named):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(files, "replaced", full)
        oracle.learner.take_snapshot(7)
    path = oracle.project.snapshot(7)
    assert files.read_arrays(path) is None
    oracle.learner.tidy({7})
    assert files.read_arrays(path) is not None


def test_what_is_dropped_is_written_before_its_file_goes(oracle, reports):
    trial = oracle.create_trial("w")
    oracle.curriculum.episodes += [
        Episode(i, TEST, i, snapshot=i, cost=float(i), ended="reached") for i in range(1, 8)
    ]
    asked(oracle, trial, reports)
    with pytest.MonkeyPatch.context() as killed:  # between the two
        killed.setattr(oracle, "settle", lambda name: None)
        bring(oracle, trial)
    assert sorted(files.read_json(oracle.project.oracle)["dropped"]) == [6, 7]


def test_a_lost_snapshot_is_played_by_the_present_network(oracle, reports):
    observation = reports[0].observation
    assert oracle.learner.act(7, observation) == oracle.learner.act(None, observation)


def test_files_that_a_killed_process_has_left_are_no_learners(oracle, tmp_path):
    oracle.learner.agent  # noqa: B018 (which makes it)
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "p" / "learner_000005.npz.0a1b.tmp.npz").touch()
    assert oracle.project.last_learner(9) == 0


def test_only_ones_own_temporary_files_are_swept_away(tmp_path):
    path = tmp_path / "trial_03" / "some.npz"
    with files.replaced(str(path), ".npz") as temporary:
        pathlib.Path(temporary).touch()
    theirs = {tmp_path / name for name in ("weights.tmp.h5", f"notes.{'g' * 32}.tmp")}
    ours = {pathlib.Path(temporary), pathlib.Path(temporary.removesuffix(".npz"))}
    for name in theirs | ours:
        name.touch()
    for older_than, left in ((3600, theirs | ours), (-1, theirs)):  # others may write new ones
        files.sweep(tmp_path, older_than)
        assert {p for p in tmp_path.glob("**/*") if p.is_file()} == left | {path}


def test_an_error_while_it_decides_stops_the_search(oracle, reports, monkeypatch):
    trial, other = oracle.create_trial("w"), oracle.create_trial("v")
    with monkeypatch.context() as patched:
        patched.setattr(oracle, "_rollout", broken)
        assert asked(oracle, trial, reports[:1]) == [STOP]
    bring(oracle, trial)
    assert oracle.trials[trial.trial_id].status == "FAILED"
    assert "no such thing" in oracle.trials[trial.trial_id].message
    assert oracle.create_trial("w").status == "IDLE"
    bring_all(oracle, other, reports)  # what is in flight is not lost
    assert oracle.trials[other.trial_id].status == "COMPLETED"
    assert {oracle.create_trial(worker).status for worker in "wv"} == {"STOPPED"}
    assert oracle.is_left()


def test_an_error_while_it_plans_stops_the_search(oracle, reports, monkeypatch):
    bring_all(oracle, oracle.create_trial("w"), reports)
    with monkeypatch.context() as patched:
        patched.setattr(oracle.curriculum, "next", broken)
        assert oracle.create_trial("w").status == "STOPPED"
    assert "no such thing" in oracle.broken
    assert oracle.is_left() and oracle.create_trial("w").status == "STOPPED"


def test_an_episode_that_was_planned_and_not_handed_out_is_planned_again(
    tmp_path, reports, monkeypatch
):
    oracle = an_oracle(tmp_path)
    while len(oracle.trials) < 6:
        bring_all(oracle, oracle.create_trial("w"), reports)
    trial = oracle.create_trial("w")
    with monkeypatch.context() as patched:
        patched.setattr(oracle.learner, "take_snapshot", broken)
        for _ in range(6):
            oracle.create_trial("v")  # until it is to be a test
    bring_all(oracle, trial, reports)  # writes what there is
    assert len(oracle.curriculum.episodes) > len(oracle.trials)
    again = an_oracle(tmp_path)
    again.reload()
    while (trial := again.create_trial("w")).status == "RUNNING":
        kind = again.episode(trial.trial_id).kind
        assert trial.hyperparameters.values[KIND] == kind
        bring_all(again, trial, reports)
    assert len(again.end_order) == 12


def broken(*args):
    raise ValueError("no such thing")
