"""QANTuner, its oracle and its policies, with real trainings and real processes."""

import os
import pathlib
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions, Goal, Policy, QANOracle, QANTuner, files
from keras_drmad.tuners.qan import wire
from keras_drmad.tuners.qan.behaviour import Behaviour
from keras_drmad.tuners.qan.curriculum import CONTEST, SCHEDULE, TEST, Curriculum, Episode
from keras_drmad.tuners.qan.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.pools import Pools
from keras_drmad.tuners.qan.regressor import Path, Regressor
from keras_drmad.tuners.qan.schedules import Schedule, propose
from keras_drmad.tuners.qan.states import Ratios
from keras_drmad.tuners.qan.steering import DIVERGED, REACHED, STOP, TRUNCATED
from keras_drmad.tuners.qan.subject import Subject

rng = np.random.default_rng(0)
X = rng.normal(size=(96, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 3))).argmax(-1)
TRAIN, VAL = (X[:64], Y[:64]), (X[64:], Y[64:])
GOAL = ("val_loss", 0.6)


def build(hp=None, optimizer=None):
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.02, momentum=0.5), loss, jit_compile=False)
    return model


def make(folder, hypermodel=build, **arguments):
    arguments = {"goal": GOAL, "max_trials": 12, "decision_every": 3, "contest": 1} | arguments
    arguments = {"seed": 0, "units": (8,)} | arguments
    return QANTuner(hypermodel, directory=str(folder), **arguments)


def search(tuner, **arguments):
    arguments = {"validation_data": VAL, "batch_size": 8, "epochs": 2, "verbose": 0} | arguments
    tuner.search(*TRAIN, **arguments)
    return tuner


def subject(states=None, actions=None, goal=GOAL, epochs=2, **arguments):
    return Subject(
        arguments.pop("build", build),
        *TRAIN,
        validation_data=VAL,
        batch_size=8,
        epochs=epochs,
        every=arguments.pop("every", 3),
        states=states or [Ratios()],
        actions=actions or Actions(),
        goal=Goal.of(goal),
        **arguments,
    )


def outcomes(tuner):
    return [(e.kind, e.seed, e.cost, e.ended) for e in tuner.oracle.curriculum.episodes]


# -- steering -------------------------------------------------------------------------------


def test_decisions_come_every_few_steps_and_at_the_end_of_an_epoch():
    seen = []
    subject(epochs=2).run(0, lambda report: seen.append(report.step) or 0.01)
    assert seen == [0, 3, 6, 8, 11, 14, 16]


def test_steered_constant_rates_train_as_fit_does():
    """A rate that is set again and again changes nothing, nor does validation in between."""
    steered = subject()
    steered.run(5, lambda report: 0.02)
    plain = subject()
    plain.restart(5)
    plain.model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0)
    for a, b in zip(steered.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_training_metrics_are_of_the_chunk_and_of_the_epoch():
    seen = []
    task = subject()
    _, history = task.run(0, lambda report: seen.append(task.steering.view.losses[-1]) or 0.02)
    chunks = np.array(seen[1:4])  # of the first epoch: 3, 3 and 2 steps
    assert np.average(chunks, weights=[3, 3, 2]) == pytest.approx(
        history.history["loss"][0], rel=1e-5
    )


def test_ratios_are_what_they_say():
    task = subject([Ratios()], epochs=1)
    weights, reports = [], []

    def decide(report):
        weights.append(np.concatenate([w.numpy().ravel() for w in task.model.trainable_variables]))
        reports.append(dict(zip(Ratios.NAMES, report.observation[0], strict=True)))
        return 0.04

    task.run(0, decide)
    view, last = task.steering.view, reports[2]
    first, second = weights[1] - weights[0], weights[2] - weights[1]
    update = np.log10(np.linalg.norm(second) / np.linalg.norm(weights[2]) / 3) + 3
    assert last["rate"] == pytest.approx(np.log10(2), abs=1e-5)
    assert last["time"] == pytest.approx(6 / 8)
    assert last["update"] == pytest.approx(update, abs=1e-4)
    assert last["gradient"] == pytest.approx(update - np.log10(0.04), abs=1e-4)
    angle = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert last["angle"] == pytest.approx(angle, abs=1e-4)
    assert last["loss_slope"] == pytest.approx(
        5 * np.log(view.losses[2] / view.losses[1]), abs=1e-4
    )
    assert last["gap"] == pytest.approx(np.log(view.val_losses[2] / 0.6), abs=1e-5)


def test_divergence_ends_an_episode_and_pays_for_the_rest():
    reports, _ = subject().run(0, lambda report: 1e30)
    assert reports[-1].ended == DIVERGED
    assert reports[-1].step < 16


def test_reaching_the_goal_ends_an_episode():
    reports, _ = subject(goal=("val_loss", 0.95)).run(0, lambda report: 0.3)
    assert reports[-1].ended == REACHED
    assert reports[-1].metric <= 0.95


def test_an_episode_can_be_stopped():
    reports, _ = subject().run(0, lambda report: STOP if report.step >= 6 else 0.01)
    assert (reports[-1].ended, reports[-1].step) == (TRUNCATED, 6)


def test_nothing_is_compiled_again_in_a_later_episode():
    task = subject()
    task.run(0, lambda report: 0.02)
    functions = [task.model.train_function, task.steering.motion._measure]
    task.run(1, lambda report: 0.05)
    assert functions[0] is task.model.train_function
    assert functions[1].experimental_get_tracing_count() <= 2  # before and after the first move


# -- actions --------------------------------------------------------------------------------


def test_actions_multiply_within_bounds():
    task = subject(actions=Actions((0.5, 2.0), bounds=(0.01, 0.1)))
    reports, _ = task.run(0, lambda report: [1])
    np.testing.assert_allclose(
        [r.rates[0] for r in reports[:4]], [0.02, 0.04, 0.08, 0.1], rtol=1e-6
    )


def test_layers_have_actions_of_their_own():
    actions = Actions((0.5, 1.0, 2.0), per="layer")
    task = subject(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    reports, _ = task.run(0, lambda report: [0, 2])
    np.testing.assert_allclose(reports[2].rates, [0.005, 0.08], rtol=1e-5)
    assert reports[2].observation.shape == (2, 14)


def test_momentum_moves():
    actions = Actions((1.0,), momentum=(0.5, 1.0))
    task = subject(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    task.run(0, lambda report: [0] if report.step == 0 else [1])
    np.testing.assert_allclose(task.steering.levers.momenta, [0.95], rtol=1e-5)


def test_pools_train_on_what_they_choose():
    model = build()
    pools = Pools(model, X, np.arange(96) % 3, batch_size=4, every=3)
    pools.restart(0)

    def samples():
        found = []
        for x, _ in pools.dataset:
            found.append(x.numpy())
            if len(found) == 3:
                return np.concatenate(found)

    def losses(x):
        indices = [int(np.argmin(np.abs(X - row).sum(1))) for row in x]
        return pools._losses(np.array(indices)).numpy(), set(indices)

    first, seen = losses(samples())
    pools.fill("hardest")
    hard, hard_ones = losses(samples())
    assert not seen & hard_ones
    pools.fill("easiest")
    easy, _ = losses(samples())
    assert hard.mean() > first.mean() * 0.9 and hard.min() > np.median(easy)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"learning_rate": ()}, "at least one"),
        ({"learning_rate": (1.0,)}, "nothing to decide"),
        ({"learning_rate": (0.5, -1)}, "positive"),
        ({"bounds": (1, 0.1)}, "bounds"),
        ({"pools": ("worst",)}, "pools"),
        ({"per": "unit"}, "per"),
    ],
)
def test_bad_actions_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Actions(**arguments)


def test_the_nearest_action_is_usable_if_it_is_near():
    actions = Actions()
    assert actions.nearest(1.02) == (2, True)
    assert actions.nearest(0.1) == (0, False)


# -- states ---------------------------------------------------------------------------------


def test_a_bag_of_filters_counts_the_nearest_words():
    state = BagOfFilters(words=2, layer="a", codebook=[[1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]])
    task = subject([Ratios(), state], epochs=1)
    reports, _ = task.run(0, lambda report: 0.01)
    signs = task.model.get_layer("a").kernel.numpy()[0] > 0
    np.testing.assert_allclose(
        reports[-1].observation[0, 14:], [signs.mean() * 2, 2 - signs.mean() * 2]
    )


def test_raw_filters_are_the_kernel():
    task = subject([RawFilters(6, 4, layer="a")], epochs=1)
    reports, _ = task.run(0, lambda report: 0.01)
    kernel = task.model.get_layer("a").kernel.numpy()
    expected = kernel / np.sqrt(np.mean(kernel**2))
    np.testing.assert_allclose(reports[-1].observation.reshape(6, 4), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="filters of 6 inputs"):
        subject([RawFilters(7, 4)]).run(0, lambda report: 0.01)


def test_the_regressor_pulls_toward_the_path():
    model, regressor = build(), Regressor(strength=0.1, until=0.5)
    before = [w.numpy() for w in model.trainable_variables]
    path = Path([0, 4], [[w + 1 for w in before], [w + 3 for w in before]])
    view = type("View", (), {"step": 2, "steps": 2, "budget": 8})
    regressor.hold(model, path, view)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, old + (1 - 0.9**2) * 2, rtol=1e-5)
    view.step = 5
    regressor.hold(model, path, view)
    np.testing.assert_allclose(model.trainable_variables[0], before[0] + 0.19 * 2, rtol=1e-5)


# -- schedules and the curriculum -----------------------------------------------------------


def test_schedules():
    assert Schedule("constant", 0.1)(500) == 0.1
    assert [Schedule("step", 0.1, 10)(t) for t in (9, 10)] == [0.1, pytest.approx(0.01)]
    assert Schedule("cosine", 0.1, 10)(5) == pytest.approx(0.05)
    cycle = Schedule("one_cycle", 0.1, 100)
    assert [cycle(0), cycle(30), cycle(65), cycle(100)] == pytest.approx([0.004, 0.1, 0.05, 0.001])


def test_the_search_of_schedules_goes_near_the_best():
    tried = [(Schedule("constant", 0.1), 10.0), (Schedule("constant", 0.001), 99.0)]
    near = [
        propose(10, 12, tried, 1e-4, 1, 100, np.random.default_rng(i), ("constant",)).peak
        for i in range(50)
    ]
    assert 0.05 < np.exp(np.mean(np.log(near))) < 0.2


def curriculum(total=60):
    return Curriculum(total, schedules=9, randoms=2, guided=2, contest=4, bounds=(0.01, 1), seed=0)


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


def test_random_actions_are_sticky():
    episode = Episode(0, "random", seed=3)
    behaviour = Behaviour(episode, Actions(), None, epsilon=0.0)
    report = type("Report", (), {"observation": np.zeros((1, 2)), "gap": 1, "cost": 1, "step": 0})
    report.ended, report.rates = "", np.ones(1)
    chosen = [behaviour.decide(report)[0] for _ in range(2000)]
    repeated = np.mean(np.array(chosen[1:]) == np.array(chosen[:-1]))
    assert 0.75 < repeated < 0.85  # 3/4 within a stretch of 4, and 1/5 of a quarter
    assert set(chosen) == set(range(5))


# -- the wire -------------------------------------------------------------------------------


def test_decisions_do_not_grow_the_trial(tmp_path):
    oracle = QANOracle(goal=GOAL, max_trials=12, contest=1, seed=0)
    oracle._set_project_dir(str(tmp_path), "p")
    trial = oracle.create_trial("w")
    size = len(str(oracle.get_trial(trial.trial_id).get_state()))
    reports, _ = subject().run(0, lambda report: 0.01)
    for number, report in enumerate(reports[:-1]):
        decision = wire.ask(oracle, trial.trial_id, number, report, 16)
        assert isinstance(decision, list)
    assert len(str(oracle.get_trial(trial.trial_id).get_state())) == size


def test_an_episode_without_its_beginning_begins_again(tmp_path):
    oracle = QANOracle(goal=GOAL, max_trials=12, contest=1, seed=0)
    oracle._set_project_dir(str(tmp_path), "p")
    trial = oracle.create_trial("w")
    reports, _ = subject().run(0, lambda report: 0.01)
    with pytest.raises(wire.MustBeginAgain):
        wire.ask(oracle, trial.trial_id, 4, reports[4], 16)


# -- searches -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    keras.utils.set_random_seed(0)
    return search(make(tmp_path_factory.mktemp("finished")))


def test_a_search_ends_with_a_contest_and_says_who_won(finished, capsys):
    kinds = [e.kind for e in finished.oracle.curriculum.episodes]
    assert kinds[-2:] == [CONTEST] * 2 and TEST in kinds and SCHEDULE in kinds
    finished.results_summary()
    printed = capsys.readouterr().out
    assert "is better, by" in printed and "random actions" in printed
    assert "steps_to_goal" in printed


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
            allowed = 5 + kills % 9
    assert kills > 4
    assert outcomes(tuner) == outcomes(finished)
    a, b = (t.get_best_policy() for t in (tuner, finished))
    assert (a.rate is None) == (b.rate is None)
    if a.network is not None:
        for x, y in zip(a.network.get_weights(), b.network.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_full_disk_loses_nothing(finished, tmp_path, monkeypatch):
    write, count = files.replaced, iter(range(10**6))

    def full(*arguments, **named):
        if 10 < next(count) < 25:
            raise OSError("No space left on device")
        return write(*arguments, **named)

    monkeypatch.setattr(files, "replaced", full)
    assert outcomes(search(make(tmp_path))) == outcomes(finished)


def test_changed_settings_are_refused(finished):
    folder = pathlib.Path(finished.project.folder).parent
    with pytest.raises(ValueError, match="decision_every: 3 before, 4 now"):
        search(make(folder, decision_every=4))


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


def test_tensorboard_gets_the_agents_logs(tmp_path):
    logs = tmp_path / "logs"
    search(make(tmp_path), callbacks=[keras.callbacks.TensorBoard(str(logs))])
    assert list((logs / "agent").glob("events*"))


# -- policies -------------------------------------------------------------------------------


def network_policy(**changes):
    oracle = QANOracle(goal=GOAL, max_trials=12, contest=1, seed=0, units=(8,))
    settings = {"states": oracle.states, "actions": oracle.actions, "goal": oracle.goal}
    settings |= {"every": 3, "start_rate": 0.02, "budget": 16, "network": oracle.network()}
    return Policy(**(settings | changes))


def test_a_policy_saved_and_loaded_steers_as_in_its_search(tmp_path):
    policy = network_policy()
    policy.save(tmp_path / "policy.keras")
    loaded = Policy.load(tmp_path / "policy.keras")
    reports, _ = subject().run(4, policy.decide)
    model = build()
    again = subject(build=build)
    again.restart(4)
    model = again.model
    model.steps_per_execution = 1  # plain `fit`
    callback = loaded.schedule(validation_data=VAL)
    model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert [r.step for r in callback.reports] == [r.step for r in reports]
    rates = [[r.rates[0] for r in of] for of in (callback.reports, reports)]
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-5)


def test_a_policy_needs_no_validation_data():
    model = build()
    history = model.fit(
        *TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[network_policy().schedule()]
    )
    assert len(history.history["learning_rate"]) == 2


def test_policies_that_do_not_fit_say_what_differs(tmp_path):
    policy = network_policy()
    with pytest.raises(ValueError, match=r"takes 14 numbers; the states give 2 \(Ratios: 2\)"):
        Policy(
            [Ratios(["rate", "gap"])], policy.actions, policy.goal, 3, 0.02, 16, policy.network
        ).check()
    with pytest.raises(ValueError, match="decision_every: 3 in the policy, 5 here"):
        make(tmp_path, policy=policy, decision_every=5)
    with pytest.raises(ValueError, match=r"actions: .* in the policy"):
        make(tmp_path, policy=policy, actions=Actions((0.5, 2.0)))
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="not a policy"):
        Policy.load(tmp_path / "other.keras")


def test_learning_goes_on_from_a_policy(tmp_path):
    policy = network_policy()
    tuner = make(tmp_path, policy=policy)
    for own, other in zip(
        tuner.oracle.agent.network.get_weights(), policy.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(own, other)


# -- bad input ------------------------------------------------------------------------------


def scheduled(hp):
    return build(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))


@pytest.mark.parametrize(
    "tuner, arguments, match",
    [
        ({"goal": Goal("val_auc", 0.5, "max")}, {}, r"what is measured is \['val_loss'\]"),
        ({"goal": ("val_loss", 50.0)}, {}, "an untrained model reaches it"),
        ({}, {"validation_data": None}, "needs `validation_data`"),
        ({"hypermodel": scheduled}, {}, "cannot be set"),
        ({"actions": Actions(per="layer")}, {}, "DrMADSGD"),
        ({"actions": Actions(momentum=(0.5, 1.0))}, {}, "momentum"),
        ({"actions": Actions(bounds=(0.1, 1.0))}, {}, "bounds"),
        ({}, {"epochs": 0}, "epochs"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(tmp_path, tuner, arguments, match):
    begun = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
    made = make(tmp_path, **tuner)
    with pytest.raises(ValueError, match=match):
        search(made, callbacks=[watch], **arguments)
    assert not begun


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
    ],
)
def test_bad_options_are_named(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(tmp_path, **arguments)


# -- many workers ---------------------------------------------------------------------------

WORKER = """
    import sys
    sys.path.insert(0, {tests!r})
    from test_qan import make, search
    tuner = search(make({folder!r}, timeout=60))
    tuner.results_summary()
"""


def test_chief_and_workers(tmp_path):
    script = textwrap.dedent(WORKER).format(
        tests=str(pathlib.Path(__file__).parent), folder=str(tmp_path)
    )
    port = str(20000 + (os.getpid() + 7) % 20000)

    def start(name):
        environment = {
            **os.environ,
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": port,
        }
        command = [sys.executable, "-W", "ignore", "-c", script]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    processes = {name: start(name) for name in ("chief", "worker0", "worker1")}
    end = time.monotonic() + 150
    try:
        while not (tmp_path / "untitled_project" / "trial_03" / "trial.json").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        processes["worker1"].kill()  # its episode goes to it again
        processes["worker1"].wait()
        processes["worker1"] = start("worker1")
        for name in ("worker0", "worker1", "chief"):
            assert processes[name].wait(timeout=max(end - time.monotonic(), 1)) == 0
    finally:
        for process in processes.values():
            process.kill()
    tuner = make(tmp_path, timeout=60)
    done = [e for e in tuner.oracle.curriculum.episodes if e.cost is not None]
    assert len(done) == 12
    assert tuner.get_best_policy() is not None
