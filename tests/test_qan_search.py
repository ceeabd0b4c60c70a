"""Searches of models, data and settings of other kinds than the tests' usual task."""

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, X, Y, build, make, outcomes, search, subject

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan import plots, summary
from keras_drmad.tuners.qan.decision_channel import START
from keras_drmad.tuners.qan.search.curriculum import Curriculum
from keras_drmad.tuners.qan.search.episode import CONTEST, TEST, Episode
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.actions import Levers
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.filters import BagOfFilters
from keras_drmad.tuners.qan.training.sample_selection import Pools
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import Subject

L = keras.layers


def test_weighted_trainings_do_not_diverge(tmp_path):
    tuner = make(tmp_path)
    tuner.search(
        *TRAIN,
        sample_weight=np.full(64, 10.0),
        validation_data=VAL,
        batch_size=8,
        epochs=1,
        verbose=0,
    )
    assert {e.ended for e in tuner.oracle.curriculum.episodes} != {"diverged"}


def test_an_objective_may_be_keras_tuners(tmp_path):
    objective = keras_tuner.Objective("val_my_score", "max")
    goal = make(tmp_path, goal=None, objective=objective).goal
    assert (goal.metric, goal.direction, goal.value) == ("val_my_score", "max", None)


def of_batches(read):
    """A dataset of 8 batches, which counts what is read."""

    def batches():
        for start in range(0, 64, 8):
            read.append(start)
            yield X[start : start + 8], Y[start : start + 8]

    of = (tf.TensorSpec((8, 6)), tf.TensorSpec((8,), "int64"))
    return tf.data.Dataset.from_generator(batches, output_signature=of)


def test_datasets_are_not_read_before_training(tmp_path):
    read = []
    known = of_batches(read).apply(tf.data.experimental.assert_cardinality(8))
    steering = {"states": [Ratios()], "actions": Actions(), "goal": Goal.of(("loss", 1e-9))}
    task = Subject(build, known, epochs=1, every=3, **steering)
    task.check()
    assert len(read) <= 2
    reports, _ = task.run(0, lambda report: None)
    assert reports[-1].step == 8
    tuner = make(tmp_path, goal=("loss", 1e-9))
    with pytest.raises(ValueError, match="length of the training data is not known"):
        tuner.search(of_batches(read))


def test_an_objective_that_is_no_number_is_the_worst(tmp_path):
    def none(y, predicted):
        return tf.reduce_mean(predicted) * np.nan

    def build_measured(hp):
        model = build()
        model.compile(model.optimizer, model.loss, metrics=[none], jit_compile=False)
        return model

    objective = keras_tuner.Objective("val_none", "max")
    tuner = search(make(tmp_path, build_measured, goal=None, objective=objective), epochs=1)
    assert {e.cost for e in tuner.oracle.curriculum.episodes} == {np.inf}


def test_what_a_search_finds_is_not_put_into_the_users_states(tmp_path):
    state = BagOfFilters(2)
    for _ in range(2):  # so the second one goes on with the first
        tuner = search(make(tmp_path, states=[state]), epochs=1)
    assert state.needs_first_run()
    assert tuner.get_best_policy().states[0].codebook.shape == (2, 6)


def test_rates_stay_within_the_bounds(tmp_path):
    """Of schedules, actions and random starts; the compiled rate, 0.02, may itself be a bound."""
    steered = {"actions": Actions(bounds=(0.02, 0.03)), "random_starts": 1}
    tuner = search(make(tmp_path, schedule_trials=6, max_trials=20, **steered), epochs=1)
    rates = [plots._history(tuner, e)["rates"] for e in tuner.oracle.curriculum.episodes]
    assert min(map(np.min, rates)) >= 0.0199
    assert max(map(np.max, rates)) <= 0.0301
    starts = [t.hyperparameters.values[START] for t in tuner.oracle.trials.values()]
    assert max(starts) * 0.02 > 0.03  # there was something to cut


class Dense(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(x)


class Nameless(Dense):
    """Its steps do not say what the loss is."""

    def test_step(self, data):
        x, y = data
        return {"score": -self.compute_loss(x, y, self(x))}


def test_what_does_not_measure_a_loss_is_refused(tmp_path):
    def nameless(hp):
        model = Nameless()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    tuner = make(tmp_path, nameless, goal=Goal("val_score", -0.5, "max"))
    with pytest.raises(ValueError, match="'loss' is needed"):
        search(tuner)


class Eager(Dense):
    """Its steps are no graph."""

    def test_step(self, data):
        size = float(np.mean(self(data[0]).numpy() ** 2))
        return {"loss": size, "size": size}


class Returned(Dense):
    """What its steps return is in no metric."""

    def test_step(self, data):
        size = keras.ops.mean(self(data[0]) ** 2)
        return {"loss": size, "size": size}


@pytest.mark.parametrize("model", [Eager, Returned])
def test_what_a_test_step_returns_counts(model):
    model = model()
    model.compile("sgd", "mse", run_eagerly=isinstance(model, Eager))
    size = np.mean(model(VAL[0]).numpy() ** 2)
    assert Validation(VAL)(model)["val_size"] == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_explosion_is_seen_whatever_training_losses_are(sign):
    """Of validation losses: training ones may be weighted; and losses may be negative."""
    task = subject(goal=("val_loss", -1e9))
    losses = iter([sign * 1.0, sign * 1.0 + 2.9, sign * 1.0 + 3.1] + [0.0] * 9)
    task.steering.validation.beside = lambda model, read: (
        {"val_loss": next(losses)},
        [tensor.numpy() for tensor in read()],
    )
    reports, _ = task.run(0, lambda report: 1e-9)
    assert [report.ended for report in reports] == ["", "", "diverged"]


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_the_agent_computes_in_float32_whatever_models_do(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        tuner = search(make(tmp_path), epochs=1)
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(e.ended for e in tuner.oracle.curriculum.episodes)
    assert {w.dtype for w in tuner.oracle.learner.agent.network.weights} == {"float32"}


def adam(hp):
    return build(optimizer=keras.optimizers.Adam(1e-4))


def test_schedules_are_searched_around_the_compiled_rate(tmp_path):
    tuner = make(tmp_path, adam)
    search(tuner, epochs=1)
    assert tuner.oracle.curriculum.bounds == pytest.approx((2e-5, 2e-2))
    tried = [e.schedule.peak for e in tuner.oracle.curriculum.episodes if e.schedule]
    assert tried and all(2e-5 <= peak <= 2e-2 for peak in tried)
    low = make(tmp_path / "low", adam, actions=Actions(bounds=(1e-5, 5e-4)))
    low.oracle.begin(1e-4)
    assert low.oracle.curriculum.bounds == pytest.approx((2e-5, 5e-4))


def test_a_search_with_an_optimizer_of_ones_own_goes_on(tmp_path):
    def made():
        return make(tmp_path, agent={"optimizer": keras.optimizers.Adam(1e-3, global_clipnorm=1.0)})

    before = outcomes(search(made()))
    assert outcomes(search(made())) == before
    with pytest.raises(ValueError, match=r"agent.optimizer.global_clipnorm: .*1.0.*2.0"):
        search(
            make(tmp_path, agent={"optimizer": keras.optimizers.Adam(1e-3, global_clipnorm=2.0)})
        )


def test_without_a_seed_the_contest_keeps_its_seeds_when_a_search_goes_on(tmp_path):
    arguments = {"seed": None, "goal": ("val_loss", 1e-9)}
    first = make(tmp_path, **arguments)
    run_trial = first.run_trial

    def killed(trial, **more):
        if first.oracle.curriculum.episodes[-1].kind == CONTEST:
            raise KeyboardInterrupt
        return run_trial(trial, **more)

    first.run_trial = killed
    with pytest.raises(KeyboardInterrupt):
        search(first, epochs=1)
    tuner = search(make(tmp_path, **arguments), epochs=1)
    policy, schedule, _ = tuner.oracle.curriculum.ranking.contest()
    assert {e.seed for e in policy} == {e.seed for e in schedule}


def test_what_a_callback_has_stopped_ends_with_its_last_step(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training |= batch >= 4  # in the second chunk of three steps

    tuner = search(make(tmp_path, goal=("val_loss", 1e-9)), callbacks=[Stop()])
    for trial in tuner.oracle.trials.values():
        steps = trial.metrics.get_history("steps")[0].value[0]
        assert trial.metrics.get_history("return")[0].value[0] == pytest.approx(-steps / 3)


def test_an_episode_that_came_to_nothing_is_the_worst_but_a_number():
    curriculum = Curriculum(30, 2, 1, 2, 2, 2, (0.01, 1.0), 0)
    costs = {10: [0.9], 13: [0.11, 0.12], 16: [np.inf, 0.1]}
    for snapshot, of in costs.items():
        for cost in of:
            episode = Episode(snapshot, TEST, 0, snapshot=snapshot, cost=cost, ended="truncated")
            curriculum.episodes.append(episode)
    ranked = curriculum.ranking.snapshots()
    assert ranked[0].number == 13 and np.isfinite([each.upper for each in ranked]).all()
    curriculum.episodes += [
        Episode(i, CONTEST, i // 2, snapshot=13 if i % 2 else None, cost=cost, ended="truncated")
        for i, cost in enumerate([np.inf, 0.1, 0.3, 0.2])
    ]
    for episode in curriculum.episodes[-4::2]:
        episode.schedule = Schedule("constant", 0.1)
    assert curriculum.ranking.contest().winner == "policy"


def test_gaps_of_what_is_no_number_do_not_bound_values(tmp_path):
    """A metric that is NaN travels as a huge number."""

    def hypermodel(hp):
        return build(optimizer=keras.optimizers.SGD(1e30))

    tuner = make(tmp_path, hypermodel, actions=Actions(bounds=(1e-5, 1e31)))
    search(tuner, epochs=1)
    assert {e.ended for e in tuner.oracle.curriculum.episodes} == {"diverged"}
    assert tuner.oracle.learner.rewards.largest_gap < 1e6


def test_pictures_of_an_objective_show_the_objective(tmp_path):
    def hypermodel(hp):
        model = build()
        model.compile(model.optimizer, model.loss, metrics=["accuracy"], jit_compile=False)
        return model

    tuner = search(make(tmp_path, hypermodel, goal=None, objective="val_accuracy"), epochs=1)
    axes = plots.learning_curve(tuner)
    drawn = np.concatenate([line.get_ydata() for line in axes.get_lines()]).astype(float)
    assert len(drawn) and (drawn >= 0).all() and (drawn <= 1).all()
    assert "val_accuracy" in summary.table(tuner.oracle)


# -- optimizers -----------------------------------------------------------------------------


def test_scaled_losses_are_looked_through():
    scaled, decay = keras.optimizers.LossScaleOptimizer, keras.optimizers.schedules.CosineDecay
    levers = Levers(scaled(keras.optimizers.SGD(0.1, momentum=0.9)), Actions())
    assert levers.read()[1] == [0.9]
    levers.pull([4], *levers.read())
    assert levers.read()[0] == pytest.approx([0.2])
    with pytest.raises(ValueError, match="cannot be set"):
        Levers(scaled(keras.optimizers.SGD(decay(0.1, 10))), Actions())


def test_momentum_moves_under_a_scaled_loss():
    optimizer = keras.optimizers.LossScaleOptimizer(DrMADSGD(0.1, momentum=0.9))
    task = subject(
        build=lambda: build(optimizer=optimizer.from_config(optimizer.get_config())),
        actions=Actions(momentum=(0.5, 1.0)),
    )
    task.run(0, lambda report: [0])
    inner = task.model.optimizer.inner_optimizer
    assert inner.hyperparameters["a"]["momentum"] > 0.9


# -- pools ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["hinge", "poisson", "binary_crossentropy", "mse"])
def test_pools_rank_flat_targets_as_fit_does(loss):
    model = keras.Sequential([L.Input((6,)), L.Dense(1, "sigmoid")])
    model.compile("sgd", loss)
    y = (Y % 2).astype("float32")
    losses = Pools(model, X, y, None, batch_size=4, every=3)._losses(np.arange(96))
    assert np.mean(losses) == pytest.approx(model.evaluate(X, y, verbose=0), rel=1e-5)


def test_schedules_are_remembered_as_what_they_did():
    uniform, usable = Actions(pools=("hardest", "uniform")).nearest(1.0)
    assert usable and Actions(pools=("hardest", "uniform")).all[uniform][2] == "uniform"
    hardest, usable = Actions(pools=("hardest", "newest")).nearest(1.0)
    assert not usable and Actions(pools=("hardest", "newest")).all[hardest][2] == "hardest"


# -- data and models ------------------------------------------------------------------------


def test_lists_of_inputs_are_validated():
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], L.Dense(3)(L.Concatenate()([a, b])))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = [VAL[0][:, :3], VAL[0][:, 3:]]
    found = Validation((x, VAL[1]))(model)["val_loss"]
    assert found == pytest.approx(model.evaluate(x, VAL[1], verbose=0), rel=1e-5)


class Pairs(keras.Model):
    """Whose steps take `(x, y)`, and nothing else."""

    def test_step(self, data):
        x, y = data
        return super().test_step((x, y))

    def train_step(self, data):
        x, y = data
        return super().train_step((x, y))


def test_steps_of_ones_own_get_what_fit_gives_them(tmp_path):
    def hypermodel(hp):
        inputs = keras.Input((6,))
        model = Pairs(inputs, L.Dense(3)(inputs))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
        return model

    search(make(tmp_path, hypermodel), epochs=1)


def test_models_that_cannot_begin_anew_are_refused(tmp_path):
    model = build()
    with pytest.raises(ValueError, match="a new model each time"):
        search(make(tmp_path / "same", lambda hp: model))
    with pytest.raises(ValueError, match="compiled model"):
        search(make(tmp_path / "plain", lambda hp: keras.Sequential([L.Input((6,)), L.Dense(3)])))


def test_validation_may_have_other_lengths():
    def made():
        model = keras.Sequential(
            [L.Input((None,)), L.Embedding(3, 2), L.GlobalAveragePooling1D(), L.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return model

    task = Subject(
        made,
        np.zeros((16, 7)),
        np.ones(16),
        validation_data=(np.zeros((8, 9)), np.ones(8)),
        batch_size=8,
        states=[Ratios()],
        actions=Actions(),
        goal=Goal.of(("val_loss", 1e-9)),
    )
    task.check()
    assert task.run(0, lambda report: 0.01)[0][-1].step == 2


@pytest.mark.parametrize(("unit", "is_compiled"), [("steps", False), ("seconds", True)])
def test_no_episode_pays_in_seconds_for_what_is_compiled_once(unit, is_compiled):
    task = subject(goal=("val_loss", 1e-9, unit), actions=Actions(pools=("uniform", "hardest")))
    task.check()
    assert (task.model.train_function is not None) == is_compiled
    assert bool(task._pools._losses.experimental_get_tracing_count()) == is_compiled
    assert task.start_rate == 0.02  # which that has not moved


class Named(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = L.Dense(3)

    def call(self, inputs):
        return self.out(keras.ops.concatenate([inputs["a"], inputs["b"]], axis=-1))


def test_subclassed_models_take_dictionaries():
    def made():
        model = Named()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    x = {"a": X[:, :3], "b": X[:, 3:]}
    goal = Goal.of(("loss", 1e-9))
    task = Subject(
        made, x, Y, batch_size=8, every=6, states=[Ratios()], actions=Actions(), goal=goal
    )
    reports, _ = task.run(0, lambda report: 0.01)
    assert reports[-1].step == 12
