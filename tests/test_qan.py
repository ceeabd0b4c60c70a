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
from matplotlib import pyplot
from processes import ended, starter
from qan_task import GOAL, VAL, build, make, outcomes, refused, search

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions, Goal, QANOracle, files
from keras_drmad.tuners.qan import plots
from keras_drmad.tuners.qan.agent import DQN
from keras_drmad.tuners.qan.behaviour import Behaviour
from keras_drmad.tuners.qan.curriculum import (
    CONTEST,
    GUIDED,
    SCHEDULE,
    TEST,
    TRAIN,
    Curriculum,
    Episode,
)
from keras_drmad.tuners.qan.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.logs import EpisodeLogs
from keras_drmad.tuners.qan.regressor import Regressor
from keras_drmad.tuners.qan.report import REACHED
from keras_drmad.tuners.qan.schedules import Schedule, propose
from keras_drmad.tuners.qan.states import Ratios

# -- schedules and the curriculum -----------------------------------------------------------


def test_schedules():
    assert Schedule("constant", 0.1)(500) == 0.1
    assert [Schedule("step", 0.1, 10)(t) for t in (9, 10)] == [0.1, pytest.approx(0.01)]
    assert Schedule("cosine", 0.1, 10)(5) == pytest.approx(0.05)
    cycle = Schedule("one_cycle", 0.1, 100)
    assert [cycle(0), cycle(30), cycle(65), cycle(100)] == pytest.approx([0.004, 0.1, 0.05, 0.001])


def test_the_search_of_schedules_goes_near_the_best():
    tried = [(Schedule("constant", 0.1), 10.0), (Schedule("constant", 0.001), 99.0)]
    near = [propose(8, 12, tried, 1e-4, 1, 100, np.random.default_rng(i)).peak for i in range(50)]
    assert 0.05 < np.exp(np.mean(np.log(near))) < 0.2


def curriculum(total=60):
    numbers = {"schedules": 9, "randoms": 2, "guided": 2, "finals": 6, "contest": 4}
    return Curriculum(total, bounds=(0.01, 1), seed=0, **numbers)


@pytest.mark.parametrize("trials, schedules", [(30, 10), (100, 33), (200, 36), (300, 45)])
def test_few_trials_search_schedules_long_enough_too(trials, schedules):
    assert QANOracle(goal=GOAL, max_trials=trials).curriculum.schedules == schedules


def test_the_curriculum_holds_its_contest_on_the_same_fresh_seeds():
    plan = curriculum()
    while (episode := plan.next()) is not None:
        episode.cost, episode.ended, episode.hit = 100.0 - episode.number, REACHED, True
    kinds = [e.kind for e in plan.episodes]
    assert len(kinds) == 60 and kinds.count(SCHEDULE) == 9 and kinds.count(CONTEST) == 8
    contest = plan.episodes[-8:]
    assert [e.seed for e in contest[::2]] == [e.seed for e in contest[1::2]]
    others = [e.seed for e in plan.episodes[:-8]]
    assert not set(others) & {e.seed for e in contest} and len(set(others)) == len(others)
    assert all(e.snapshot is not None for e in contest[::2])
    assert all(e.schedule is not None for e in contest[1::2])


def test_the_contest_waits_for_all_tests():
    plan = curriculum()
    for _ in range(52):
        plan.next()
    for episode in plan.episodes[:-1]:
        episode.cost, episode.ended = 1.0, REACHED
    assert plan.next() is None
    plan.episodes[-1].ended = "failed"
    assert plan.next().kind == CONTEST


def test_snapshots_are_ranked_by_a_bound_not_by_one_lucky_test():
    plan = curriculum()
    costs = {1: [10.0], 2: [12, 12, 13, 11, 12, 12, 12, 12, 12], 3: [30, 20, 10]}
    for snapshot, of in costs.items():
        plan.episodes += [Episode(0, TEST, 0, snapshot=snapshot, cost=c, ended=REACHED) for c in of]
    assert next(snapshot for snapshot, *_ in plan.snapshots_ranked()) == 2


def test_a_lucky_test_among_bad_neighbours_counts_less_than_a_good_neighbourhood():
    plan = curriculum()
    for snapshot, cost in enumerate([30, 30, 30, 11, 30, 30, 30, 13, 12, 13, 12, 13, 12]):
        plan.episodes.append(
            Episode(0, TEST, 0, snapshot=snapshot, cost=float(cost), ended=REACHED)
        )
    assert plan.snapshots_ranked()[0][0] in (10, 11, 12)


def test_the_last_tests_are_of_the_most_promising_snapshots():
    """The one that might be the best is tested until it has shown that it is not."""
    plan = curriculum()
    means, rng = {}, np.random.default_rng(0)
    while (episode := plan.next()) is not None:
        if episode.kind == TEST and episode.snapshot not in means:
            means[episode.snapshot] = 30.0 - 2 * len(means)  # learning makes them better
        mean = means.get(episode.snapshot, 50.0)
        episode.cost, episode.ended = mean + rng.normal(), REACHED
    last = [e.snapshot for e in plan.episodes[-14:-8]]
    tests = [e.snapshot for e in plan.episodes if e.kind == TEST and e.number < 60 - 14]
    assert tests == sorted(set(tests))  # each of the network as it was then
    assert set(last) <= set(tests[-3:])
    assert plan.episodes[-2].snapshot == tests[-1]


def test_random_actions_are_sticky():
    """Stretches of 1 to 30 / 3 = 10 decisions, or to a tenth of the rate; their logarithm uniform."""
    behaviour = Behaviour(Episode(0, "random", seed=3), Actions(), None, epsilon=0.0, decisions=30)
    report = type("Report", (), {"observation": np.zeros((1, 2)), "gap": 1, "cost": 1, "step": 0})
    report.ended, report.rates = "", np.ones(1)
    chosen = np.array([behaviour.decide(report)[0] for _ in range(20_000)])
    ends = np.flatnonzero(np.diff(chosen)) + 1
    lengths, of = np.diff(ends), chosen[ends[:-1]]
    for action, longest in enumerate((np.log(10) / np.log(2), 10, 10, 10, np.log(10) / np.log(2))):
        logs = np.linspace(0, np.log(longest), 10_000, endpoint=False)
        # One in five is followed by another of the same action.
        expected = np.mean(np.exp(logs).astype(int)) / 0.8
        assert np.mean(lengths[of == action]) == pytest.approx(expected, rel=0.1)


def test_layers_explore_together_and_each_for_itself():
    behaviour = Behaviour(Episode(0, "random", seed=3), Actions(), None, epsilon=0.0, decisions=30)
    report = type("Report", (), {"observation": np.zeros((3, 2)), "gap": 1, "cost": 1, "step": 0})
    report.ended, report.rates = "", np.ones(3)
    chosen = np.array([behaviour.decide(report) for _ in range(20_000)])
    alike = (chosen == chosen[:, :1]).all(axis=1)
    assert 0.3 < alike.mean() < 0.7
    for layer in chosen[~alike].T:
        assert set(layer) == set(range(5))


def test_guided_stretches_draw_a_pool():
    """Guided episodes do what a schedule says of the rate; of samples it says nothing."""
    pools = ("uniform", "hardest", "newest")
    guide = Schedule("constant", 0.02).get_config()
    episode = Episode(0, GUIDED, seed=3, guide=guide)
    actions = Actions((0.5, 1.0, 2.0), pools=pools)
    behaviour = Behaviour(episode, actions, None, epsilon=0.0, decisions=30)
    report = type("Report", (), {"observation": np.zeros((1, 2)), "gap": 1, "cost": 1, "step": 0})
    report.ended, report.rates = "", np.full(1, 0.011)
    done = [actions.all[behaviour.decide(report)[0]] for _ in range(2000)]
    assert {rate for rate, *_ in done} == {2.0}
    drawn = np.array([pool for *_, pool in done])
    assert all(0.2 < np.mean(drawn == pool) < 0.5 for pool in pools)
    assert np.mean(drawn[1:] == drawn[:-1]) > 0.7  # a stretch has one


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
    assert "is better, by" in printed and "random actions" in printed
    assert "steps_to_goal" in printed


def test_the_best_network_and_the_best_schedule_can_be_had(finished):
    network, schedule = map(finished.get_best_policy, ("network", "schedule"))
    assert network.network is not None and schedule.network is None
    assert schedule.rate == finished.oracle.curriculum.best_schedule()[0]
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
    assert len(list(folder.glob("learner_*"))) == 1
    assert len(list(folder.glob("snapshot_*"))) <= 3


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
    assert (a.rate is None) == (b.rate is None)
    if a.network is not None:
        for x, y in zip(a.network.get_weights(), b.network.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


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


def test_an_objective_instead_of_a_goal(tmp_path):
    tuner = search(make(tmp_path, goal=None, objective="val_loss"))
    costs = [e.cost for e in tuner.oracle.curriculum.episodes]
    assert all(0 < cost < 10 for cost in costs) and len(set(costs)) > 5
    assert tuner.oracle.get_best_trials()[0].score == min(costs)


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
    assert {"epsilon", "return", "learning", "agent_q", "test/steps_to_goal", "actions"} <= set(
        numbers
    )
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


def test_the_display_says_how_much_time_is_left(finished, folder):
    left = [line for line in (folder / "shown.txt").read_text().splitlines() if "Time left" in line]
    assert len(left) == 11 and all(re.search(r"at most: \d+:\d\d:\d\d", line) for line in left)


# -- pictures -------------------------------------------------------------------------------


def test_pictures_show_what_happened(finished):
    axes = plots.learning_curve(finished)
    episodes = finished.oracle.curriculum.episodes
    drawn = {line.get_label(): line.get_data() for line in axes.get_lines()}
    for kind in (SCHEDULE, TEST):
        of = [(e.number, e.cost) for e in episodes if e.kind == kind]
        np.testing.assert_array_equal(np.transpose(drawn[kind]), of)
    assert drawn["best schedule searched"][1][0] == pytest.approx(
        np.mean(finished.oracle.curriculum.schedules_ranked()[0][1])
    )
    axes = plots.learning_rates(finished)
    contest = [e for e in episodes if e.kind == CONTEST]
    assert len(axes.get_lines()) == len(contest) == 2
    for line, episode in zip(
        axes.get_lines(), sorted(contest, key=lambda e: not e.schedule), strict=True
    ):
        history = files.read_arrays(finished.project.history(f"{episode.number:02d}"))["decisions"]
        np.testing.assert_array_equal(line.get_ydata(), history["rates"].ravel())
    image = plots.actions(finished).get_images()[0].get_array()
    steered = [e for e in episodes if e.kind in (TRAIN, TEST)]
    assert len(image) == len(steered)
    assert np.nanmax(np.abs(image)) <= 1
    pyplot.close("all")


def test_pictures_of_a_search_that_has_not_begun(tmp_path):
    tuner = make(tmp_path)
    for draw in (plots.learning_curve, plots.learning_rates, plots.actions, plots.pools):
        draw(tuner)
    pyplot.close("all")


def test_a_picture_shows_the_pools_of_a_search(tmp_path):
    actions = Actions((0.5, 1.0, 2.0), pools=("uniform", "newest", "hardest"))
    tuner = search(make(tmp_path, actions=actions))
    axes = plots.pools(tuner)
    image = axes.get_images()[0]
    steered = [e for e in tuner.oracle.curriculum.episodes if e.kind in (TRAIN, TEST)]
    for row, episode in zip(image.get_array(), steered, strict=True):
        decisions = files.read_arrays(tuner.project.history(f"{episode.number:02d}"))["decisions"]
        taken = [actions.all[action][2] for action in decisions["actions"][:-1].ravel()]
        assert [actions.pools[int(number)] for number in row.compressed()] == taken
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert legend == set(actions.pools)
    pyplot.close("all")


# -- the network ----------------------------------------------------------------------------


def linear(parts, actions, seed=None):
    (shape, _), *_ = parts
    return keras.Sequential([keras.layers.Input(shape), keras.layers.Dense(actions)])


def test_a_network_of_ones_own(tmp_path):
    tuner = search(make(tmp_path, network=linear))
    policy = tuner.oracle.learner.network()
    assert [type(layer).__name__ for layer in policy.layers] == ["Dense"]
    with pytest.raises(ValueError, match=r"network.*linear"):
        search(make(tmp_path))


# -- bad input ------------------------------------------------------------------------------


ENDLESS = tf.data.Dataset.from_tensor_slices(VAL).batch(8).repeat()


def scheduled(hp):
    return build(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))


def measured(hp):
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(model.optimizer, loss, metrics=["acc"])
    return model


@pytest.mark.parametrize(
    "tuner, arguments, match",
    [
        ({"goal": Goal("val_auc", 0.5, "max")}, {}, r"what is measured is \['loss', 'val_loss'\]"),
        ({"goal": ("val_loss", 50.0)}, {}, "an untrained model reaches it"),
        ({"goal": ("val_acc", 96.5), "hypermodel": measured}, {}, "from 0 to 1.*mean 0.965"),
        ({}, {"validation_data": None}, "needs `validation_data`"),
        ({"hypermodel": scheduled}, {}, "cannot be set"),
        ({"actions": Actions(per="layer")}, {}, "DrMADSGD"),
        ({"actions": Actions(momentum=(0.5, 1.0))}, {}, "momentum"),
        ({"actions": Actions(bounds=(0.1, 1.0))}, {}, "bounds"),
        ({}, {"epochs": 0}, "epochs"),
        ({"goal": Goal("auc", 0.9, "max")}, {}, r"what is measured is \['loss', 'val_loss'\]"),
        ({}, {"validation_data": (VAL[0][:, :4], VAL[1])}, "validation_data.*cannot be evaluated"),
        ({}, {"validation_data": (VAL[0][..., None], VAL[1])}, "validation_data.*samples like"),
        ({}, {"validation_data": iter([VAL])}, "validation_data.*Received: a list_iterator"),
        ({"states": [BagOfFilters(2, layer="c")]}, {}, "No such layer: c"),
        ({"states": [RawFilters(5, 2)]}, {}, "made for 2 of 5"),
        ({}, {"validation_data": (VAL[0] * np.nan, VAL[1])}, "validation_data.*NaN"),
        ({}, {"validation_data": (VAL[0], VAL[1][:5])}, "same number of samples"),
        ({}, {"validation_data": ENDLESS}, "repeats for ever"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(tmp_path, tuner, arguments, match):
    refused(tmp_path, match, tuner, **arguments)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"goal": ("val_loss", np.nan)}, "finite"),
        ({"goal": ("val_loss", 0.1, "hours")}, "unit"),
        ({"goal": ("my_metric", 0.1)}, "raised or lowered"),
        ({"goal": "val_loss"}, "goal"),
        ({"max_trials": 5}, "leaves no episode"),
        ({"executions_per_trial": 2}, "executions_per_trial"),
        ({"jump_start": 0}, "jump_start"),
        ({"goal": ("val_loss", "low")}, "finite number"),
        ({"agent": {"nstep": 3}}, r"`agent` may hold .*'n_step'.*Received: \['nstep'\]"),
        ({"agent": {"gamma": 1.1}}, "`gamma` must be from 0 to 1"),
        ({"agent": {"n_step": 0}}, "`n_step` must be a positive integer"),
        ({"agent": {"optimizer": "fastest"}}, "fastest"),
        ({"network": {"layers": 3}}, r"`network` may hold .*'units'.*Received: \['layers'\]"),
        ({"epsilon": 0.1}, r"`epsilon` must be \(first, last\)"),
        ({"random_starts": 2}, "`random_starts` must be from 0 to 1"),
        ({"cut": 0}, "`cut` must be a finite number, 1 or more"),
        ({"shaping": -1}, "`shaping`"),
        ({"updates": 2.5}, "`updates`"),
        ({"contest": -1}, "`contest`"),
        ({"schedule_trials": 0.15}, "`schedule_trials` must be a whole number"),
        ({"schedule_trials": -3}, "`schedule_trials`"),
    ],
)
def test_bad_options_are_named(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(tmp_path, **arguments)


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
    start = starter(work, tmp_path, ran, offset=7)

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
        assert ended(processes["chief"], 3) == 0
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
