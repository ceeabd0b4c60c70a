"""Searches of models, data and settings of other kinds than the tests' usual task."""

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, Dense, build, make, outcomes, search

from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan import plots, summary
from keras_drmad.tuners.qan.decision_channel import START
from keras_drmad.tuners.qan.search.curriculum import Curriculum
from keras_drmad.tuners.qan.search.episode import CONTEST, TEST, Episode
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.filters import BagOfFilters

pytestmark = pytest.mark.slow

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
    assert state.needs_warm_start()
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


# -- data and models ------------------------------------------------------------------------


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
