"""QANTuner, its oracle and its policies, with real trainings and real processes."""

import contextlib
import itertools
import os
import pathlib
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import ended, starter
from qan_task import build, make, outcomes, search

from keras_drmad import DrMADSGD
from keras_drmad import plots as every_picture
from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan import plots
from keras_drmad.tuners.qan.agent.dqn import DQN
from keras_drmad.tuners.qan.decision_channel import KIND
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE, TEST, TRAIN
from keras_drmad.tuners.qan.search.logs import EpisodeLogs
from keras_drmad.tuners.qan.training.filters import BagOfFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow

# -- searches -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(scope="module")
def finished(folder):
    keras.utils.set_random_seed(0)
    board = keras.callbacks.TensorBoard(str(folder / "logs"))
    with open(folder / "shown.txt", "w") as shown, contextlib.redirect_stdout(shown):
        return search(make(folder), callbacks=[board], verbose=1)


def test_a_search_ends_with_a_contest_and_says_who_won(finished, capsys):
    kinds = [e.kind for e in finished.oracle.curriculum.episodes]
    assert kinds[-2:] == [CONTEST] * 2 and TEST in kinds and SCHEDULE in kinds
    finished.results_summary()
    printed = capsys.readouterr().out
    assert "one seed" in printed and "random actions" in printed
    assert "steps_to_goal" in printed and "How much is luck" in printed


def test_the_best_network_and_the_best_schedule_can_be_had(finished):
    network, schedule = map(finished.get_best_policy, ("network", "schedule"))
    assert network.network is not None and schedule.network is None
    assert schedule.learning_rate == finished.oracle.curriculum.ranking.best_schedule().schedule
    with pytest.raises(ValueError, match=r"\"network\" or \"schedule\". Received: kind='best'"):
        finished.get_best_policy("best")


def test_without_any_episode_there_is_no_policy(tmp_path):
    for kind in (None, "network", "schedule"):
        with pytest.raises(RuntimeError, match=f"There is no {kind or 'network'} yet"):
            make(tmp_path).get_best_policy(kind)


def test_what_an_episode_did_is_in_its_trial(finished):
    trial = finished.oracle.get_trial("05")
    for name in ("steps", "steps_to_goal", "epsilon", "return", "agent_q", "agent_loss"):
        assert trial.metrics.exists(name), name
    assert trial.score == finished.oracle.curriculum.episodes[5].cost


def test_files_do_not_grow_with_episodes(finished):
    folder = pathlib.Path(finished.project.folder)
    assert len(list(folder.glob("learner_*"))) == 2  # the last, and the one before it
    assert len(list(folder.glob("snapshot_*"))) <= 3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_search(finished, tmp_path):
    assert outcomes(search(make(tmp_path))) == outcomes(finished)


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(finished, tmp_path, monkeypatch):
    """Killed at every write in turn, each time in a later one."""
    write = files.replaced
    ends = {"left": 0}

    class Killed(BaseException):
        pass

    def dying(*arguments, **named):
        ends["left"] -= 1
        if ends["left"] < 0:
            raise Killed
        return write(*arguments, **named)

    monkeypatch.setattr(files, "replaced", dying)
    kills, allowed = 0, 2
    while True:
        ends["left"] = allowed
        try:
            tuner = search(make(tmp_path))
            break
        except Killed:
            kills += 1
            allowed = 24 + kills % 9
    assert kills > 4
    assert outcomes(tuner) == outcomes(finished)
    a, b = (t.get_best_policy() for t in (tuner, finished))
    assert (a.learning_rate is None) == (b.learning_rate is None)
    if a.network is not None:
        for x, y in zip(a.network.get_weights(), b.network.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_search_that_was_interrupted_goes_on_in_the_same_process(finished, tmp_path, monkeypatch):
    """As in a notebook: wherever the oracle was, it does nothing twice."""
    interrupted = iter([(DQN, "learn", 2), (EpisodeLogs, "record", 1), (DQN, "learn", 1)])
    tuner = make(tmp_path)
    for of, name, after in interrupted:
        call, calls = getattr(of, name), itertools.count()

        def interrupting(*arguments, call=call, calls=calls, after=after, **named):
            result = call(*arguments, **named)
            if next(calls) == after:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(of, name, interrupting)
            search(tuner)
    search(tuner)
    assert outcomes(tuner) == outcomes(finished)
    assert tuner.oracle.learner.learned == finished.oracle.learner.learned
    states = [t.oracle.learner.agent.get_state() for t in (tuner, finished)]
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


def test_a_full_disk_loses_nothing(finished, tmp_path, monkeypatch):
    write, count = files.replaced, iter(range(10**6))

    def full(*arguments, **named):
        if 10 < next(count) < 25:
            raise OSError("No space left on device")
        return write(*arguments, **named)

    monkeypatch.setattr(files, "replaced", full)
    assert outcomes(search(make(tmp_path))) == outcomes(finished)


@pytest.mark.parametrize(
    "changed, match",
    [
        ({"decision_every": 4}, "decision_every: 3 before, 4 now"),
        ({"schedule_trials": 0}, "schedule_trials: 2 before, 0 now"),
        ({"random_trials": 0}, "random_trials: 1 before, 0 now"),
        ({"guided_trials": 0}, "guided_trials: 2 before, 0 now"),
        ({"contest": 0}, "contest: 1 before, 0 now"),
    ],
)
def test_changed_settings_are_refused(finished, folder, changed, match):
    with pytest.raises(ValueError, match=match):
        search(make(folder, **changed))


def test_what_steers_the_next_episodes_may_change(finished, folder, caplog):
    search(make(folder, epsilon=(0.5, 0.1), gradient_steps=9))
    assert "epsilon: " in caplog.text and "gradient_steps: " in caplog.text
    assert "[0.5, 0.1] now" in caplog.text
    search(make(folder))


@pytest.mark.slow
def test_an_objective_instead_of_a_goal(tmp_path):
    tuner = search(make(tmp_path, goal=None, objective="val_loss"))
    costs = [e.cost for e in tuner.oracle.curriculum.episodes]
    assert all(0 < cost < 10 for cost in costs) and len(set(costs)) > 5
    assert tuner.oracle.get_best_trials()[0].score == min(costs)


@pytest.mark.slow
def test_everything_at_once(tmp_path):
    """Jump-start, regressor, layers, words: what one search of them all takes."""
    tuner = make(
        tmp_path,
        lambda hp: build(optimizer=DrMADSGD(0.02, learn=())),
        jump_start=3,
        regressor=Regressor(0.01),
        states=[Ratios(), BagOfFilters(3, layer="a")],
        actions=Actions((0.5, 1.0, 2.0), per="layer"),
        agent={"prioritized": True},
    )
    search(tuner)
    assert len([e for e in tuner.oracle.curriculum.episodes if e.cost]) == 12
    folder = pathlib.Path(tuner.project.folder)
    assert len(list(folder.glob("*/reference.npz"))) == 1
    again = make(
        tmp_path,
        states=[Ratios(), BagOfFilters(3, layer="a")],
        actions=Actions((0.5, 1.0, 2.0), per="layer"),
        jump_start=3,
    )
    assert again.get_best_policy().states[1].codebook.shape == (3, 6)


def test_tensorboard_gets_the_agents_logs(finished, folder):
    logs = folder / "logs"
    numbers = summaries(logs / "agent")
    expected = {"epsilon", "return", "learning", "agent_q", "test/steps_to_goal", "actions"}
    assert expected | {"first_learning_rate", "last_learning_rate"} <= set(numbers)
    assert len(numbers["return"]) == 12 and len(numbers["agent_q"]) == 10  # without the contest
    over = summaries(logs / "agent" / "04")
    history = files.read_arrays(finished.project.history("04"))["decisions"]
    for name, values in (("learning rate", history["rates"].mean(-1)), ("gap", history["gaps"])):
        steps, seen = zip(*over[f"over steps/{name}"], strict=True)
        np.testing.assert_array_equal(steps, history["steps"])
        np.testing.assert_allclose(seen, values, rtol=1e-6)


def summaries(folder):
    """`{tag: [(step, value)]}` of TensorBoard's files."""
    found = {}
    for path in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def test_the_display_has_a_line_for_each_episode(finished, folder):
    """What it was, what it cost, how the rate went, and how much time is left."""
    lines = (folder / "shown.txt").read_text().splitlines()
    assert lines[0] == "Compiling the training of at most 16 steps"
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"Episode {number:02d} ({number + 1} of 12)" for number in range(12)
    ]
    for episode, line in zip(finished.oracle.curriculum.episodes, lines[1:], strict=True):
        assert f": {episode.kind}, {'reached' if episode.hit else 'missed'}; " in line
        assert f"steps_to_goal {episode.cost:.4g} (" in line
        history = files.read_arrays(finished.project.history(f"{episode.number:02d}"))["decisions"]
        first, last = history["rates"][[0, -1]].mean(-1)
        assert f"learning rate {first:.4g} → {last:.4g}; " in line
        assert ("left" in line) == (episode.number < 11)
        assert not re.search(r"qan/|\d\.\d{6}", line)


def test_hparams_say_what_an_episode_is_and_starts_with(finished, folder):
    from tensorboard.plugins.hparams import plugin_data_pb2

    trial = finished.oracle.get_trial("05")
    found = {
        value.tag: value.metadata.plugin_data.content
        for path in (folder / "logs" / "05" / "execution0").glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag.startswith("_hparams_")
    }
    started = found["_hparams_/session_start_info"]
    shown = plugin_data_pb2.HParamsPluginData.FromString(started).session_start_info.hparams
    assert shown["episode"].string_value == trial.hyperparameters.values[KIND]
    rate = trial.metrics.get_best_value("first_learning_rate")
    assert shown["start/learning_rate"].number_value == pytest.approx(rate, rel=1e-4)
    assert not any(name.startswith("qan/") for name in shown)


# -- pictures -------------------------------------------------------------------------------


def test_one_picture_has_them_all(finished):
    axes = every_picture.search(finished)
    assert [panel.get_xlabel() for panel in axes] == ["episode", "step", "decision"]
    assert all(panel.has_data() for panel in axes)


def test_a_picture_needs_an_episode(tmp_path):
    with pytest.raises(ValueError, match="no episode that has ended: call `search`"):
        every_picture.search(make(tmp_path))


def test_pictures_show_what_happened(finished):
    axes = plots.learning_curve(finished)
    episodes = finished.oracle.curriculum.episodes
    drawn = {line.get_label(): line.get_data() for line in axes.get_lines()}
    for kind in (SCHEDULE, TEST):
        of = [(e.number, e.cost) for e in episodes if e.kind == kind]
        np.testing.assert_array_equal(np.transpose(drawn[kind]), of)
    assert drawn["best schedule searched"][1][0] == pytest.approx(
        finished.oracle.curriculum.ranking.best_schedule().mean
    )
    axes = plots.learning_rates(finished)
    contest = [e for e in episodes if e.kind == CONTEST]
    assert len(axes.get_lines()) == len(contest) == 2
    for line, episode in zip(
        axes.get_lines(), sorted(contest, key=lambda e: not e.schedule), strict=True
    ):
        history = files.read_arrays(finished.project.history(f"{episode.number:02d}"))["decisions"]
        np.testing.assert_array_equal(line.get_ydata(), history["rates"].ravel())
    image = plots.actions(finished)[0].get_images()[0].get_array()
    steered = [e for e in episodes if e.kind in (TRAIN, TEST)]
    assert len(image) == len(steered)
    assert np.nanmax(np.abs(image)) <= 1


def test_pictures_of_a_search_that_has_not_begun(tmp_path):
    tuner = make(tmp_path)
    for draw in (plots.learning_curve, plots.learning_rates, plots.actions, plots.sample_selection):
        draw(tuner)


@pytest.mark.slow
def test_a_picture_shows_the_pools_of_a_search(tmp_path):
    actions = Actions((0.5, 1.0, 2.0), sample_selection=("uniform", "newest", "hardest"))
    tuner = search(make(tmp_path, actions=actions))
    axes = plots.sample_selection(tuner)
    image = axes.get_images()[0]
    steered = [e for e in tuner.oracle.curriculum.episodes if e.kind in (TRAIN, TEST)]
    for row, episode in zip(image.get_array(), steered, strict=True):
        decisions = files.read_arrays(tuner.project.history(f"{episode.number:02d}"))["decisions"]
        taken = [actions.all[action][2] for action in decisions["actions"][:-1].ravel()]
        assert [actions.sample_selection[int(number)] for number in row.compressed()] == taken
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert legend == set(actions.sample_selection)


# -- many workers ---------------------------------------------------------------------------


def work(folder, ran):
    """As chief or worker; writes into a file which episodes it trains."""
    tuner = make(folder, timeout=60)
    train_trial = tuner.train_trial

    def logged(trial, **more):
        with open(ran, "a") as file:
            print(os.environ["KERASTUNER_TUNER_ID"], trial.trial_id, file=file)
        return train_trial(trial, **more)

    tuner.train_trial = logged
    search(tuner)
    tuner.results_summary()


def test_chief_and_workers(tmp_path):
    """A worker is killed, then the chief: each comes back, and only what the worker had is repeated."""
    ran = tmp_path / "ran.txt"
    start = starter(work, tmp_path, ran)

    def wait_for(trial):
        while not (tmp_path / "untitled_project" / f"trial_{trial:02d}" / "trial.json").exists():
            assert time.monotonic() < end
            time.sleep(0.05)

    def restart(name):
        processes[name].kill()
        processes[name].join()
        processes[name] = start(name)

    end = time.monotonic() + 150
    processes = {name: start(name) for name in ("chief", "worker0", "worker1")}
    try:
        wait_for(3)
        restart("worker1")  # its episode goes to it again
        wait_for(6)
        restart("chief")
        for name in ("worker0", "worker1"):
            assert ended(processes[name], end - time.monotonic()) == 0
        assert ended(processes["chief"], 20) == 0
        processes = {name: start(name) for name in ("chief", "worker0")}  # of a search that is over
        for process in processes.values():
            assert ended(process, 60) == 0
    finally:
        for process in processes.values():
            process.kill()
    done = [e for e in make(tmp_path).oracle.curriculum.episodes if e.cost is not None]
    assert len(done) == 12
    runs = ran.read_text().split("\n")[:-1]
    twice = {
        run.split()[1] for run in runs if sum(r.split()[1] == run.split()[1] for r in runs) > 1
    }
    assert len(runs) - 12 == len(twice) <= 1
    assert make(tmp_path).get_best_policy() is not None
