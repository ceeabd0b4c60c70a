"""`QANTuner`, its parts and `TrainingEnv`: what makes no sense is refused before anything is trained."""

import os

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, build, make, refused, search, training

from keras_drmad.tuners import Actions, Goal, QANOracle
from keras_drmad.tuners.qan.agent.dqn import check_arguments
from keras_drmad.tuners.qan.env import TrainingEnv
from keras_drmad.tuners.qan.policy import Policy
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.states import Ratios, State

BUDGET = 16  # steps of an episode of `search`


@pytest.fixture
def no_training(monkeypatch):
    """A warm start is a training, too."""

    def fit(*arguments, **named):
        raise AssertionError("a training has begun")

    monkeypatch.setattr(keras.Model, "fit", fit)


# -- the warm start --------------------------------------------------------------------------


@pytest.mark.parametrize("jump_start", [BUDGET, 1000])
def test_a_jump_beyond_the_budget_is_refused(tmp_path, no_training, jump_start):
    match = f"`jump_start` must be less than the 16 steps.*jump_start={jump_start}"
    refused(tmp_path, match, {"jump_start": jump_start})


@pytest.mark.parametrize("added", [{"jump_start": 3}, {"jump_start": 3, "gradient_steps": 1}])
def test_settings_are_compared_before_a_warm_start(tmp_path, no_training, monkeypatch, added):
    monkeypatch.setattr(keras_tuner.Tuner, "search", lambda *_, **__: None)  # is killed at once
    made = search(make(tmp_path))
    assert os.path.exists(made.project.settings)
    refused(tmp_path, "searched with other settings: .*jump_start: None before, 3 now", added)
    assert not os.path.exists(made.project.warm_start)


@pytest.mark.parametrize(
    "changed",
    [
        {"validation_data": (VAL[0][:-1], VAL[1][:-1])},
        {"validation_data": tf.data.Dataset.from_tensor_slices(VAL).batch(8)},
        {"sample_weight": np.ones(len(TRAIN[0]), "float32")},
    ],
    ids=["fewer", "of another kind", "weighted"],
)
def test_a_search_goes_on_with_the_same_data(tmp_path, no_training, monkeypatch, changed):
    monkeypatch.setattr(keras_tuner.Tuner, "search", lambda *_, **__: None)
    search(make(tmp_path))
    refused(tmp_path, r"searched with other settings: .*data: .* before, .* now", {}, **changed)


@pytest.fixture(scope="module")
def losses():
    """Validation losses of the warm start at each decision."""
    keras.utils.set_random_seed(0)
    return [r.metric for r in training(goal=("val_loss", 1e-9)).run(0, lambda report: None)[0]]


@pytest.mark.parametrize("decision", [1, 2])
def test_a_jump_to_the_goal_is_refused(tmp_path, losses, decision):
    before, there, after = losses[decision - 1 : decision + 2]
    assert before > there > after
    tuner = {"jump_start": 3 * decision, "goal": ("val_loss", (there + before) / 2)}
    match = (
        f"`jump_start={3 * decision}` leaves nothing to learn: val_loss is {there:.4g} there.*goal"
    )
    made = refused(tmp_path, match, tuner)
    assert not os.path.exists(made.project.warm_start)
    # It can be put right: nothing is left of it.
    assert not os.path.exists(made.project.settings)


def test_a_jump_to_weights_that_have_diverged_is_refused(tmp_path):
    def wild(hp=None):
        return build(optimizer=keras.optimizers.SGD(1e4))

    tuner = {"jump_start": 3, "hypermodel": wild, "actions": Actions(bounds=(1e-5, 1e5))}
    refused(tmp_path, r"`jump_start=3` is not reached.*step 3 \(diverged\)", tuner)


# -- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"words": 0}, "`words` must be a positive integer"),
        ({"words": 2.5}, "`words` must be a positive integer"),
        ({"words": 3, "codebook": np.ones((2, 6))}, r"words=3. Received: an array of \(2, 6\)"),
        ({"words": 2, "codebook": np.ones(2)}, r"`codebook`.*Received: an array of \(2,\)"),
    ],
)
def test_words_that_are_no_codebook_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        BagOfFilters(**arguments)


def test_words_that_do_not_fit_a_layer_are_refused():
    with pytest.raises(ValueError, match=r"\(words, 6\) for filters of 6 inputs"):
        BagOfFilters(2, codebook=np.ones((2, 5))).check(build())
    BagOfFilters(5, codebook=np.ones((5, 6))).check(build())


def test_more_words_than_filters_are_refused():
    """A layer of four filters has eight at two decisions."""
    with pytest.raises(ValueError, match=r"at most 8, the filters of all decisions.*words=9"):
        BagOfFilters(9).prepare([build(), build()])


class Shaped(State):
    """Returns something else than it says."""

    shape = (3,)

    def __init__(self, returns):
        self.returns = returns

    def observe(self, view):
        assert len(view.rates) == 1 and view.losses and view.gaps and view.motion.shape == (1, 4)
        return self.returns


@pytest.mark.parametrize(
    "returns, match",
    [
        (np.zeros((1, 2)), r"`observe` of Shaped.*\(1, 3\).*Received: an array of \(1, 2\)"),
        (np.zeros(3), r"Received: an array of \(3,\)"),
        ([[1.0, 2.0, 3.0]], r"must return a NumPy array.*Received: \[\[1.0, 2.0, 3.0\]\]"),
    ],
)
@pytest.mark.parametrize("goal", ["val_loss", "loss"])
def test_states_of_another_shape_than_promised_are_refused(returns, match, goal):
    with pytest.raises(ValueError, match=match):
        training([Ratios(), Shaped(returns)], goal=(goal, 1e-9)).check()


@pytest.mark.parametrize(
    "states", [[RawFilters(5, 4)], [BagOfFilters(2, codebook=np.ones((2, 5)))]]
)
def test_a_policy_checks_its_states_when_a_training_begins(states):
    schedule = Schedule("constant", 0.02)
    goal = Goal("val_loss", 1e-9)
    policy = Policy(states, Actions(), goal, 3, 0.02, 8, learning_rate=schedule)
    began = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: began.append(1))
    with pytest.raises(ValueError, match=r"filters of 6 inputs"):
        build().fit(*TRAIN, callbacks=[policy.as_callback(VAL), watch], verbose=0)
    assert not began


# -- the agent ------------------------------------------------------------------------------


def network(inputs=7, outputs=5, **more):
    def make(parts, actions, seed=None):
        tensors = keras.layers.Input((inputs,))
        return keras.Model(tensors, keras.layers.Dense(outputs)(tensors), **more)

    return make


def two_inputs(parts, actions, seed=None):
    tensors = [keras.layers.Input((3,)), keras.layers.Input((4,))]
    return keras.Model(tensors, keras.layers.Dense(5)(keras.layers.Concatenate()(tensors)))


@pytest.mark.parametrize(
    "made, match",
    [
        (network(inputs=6), r"`network`.*\(batch, 7\).*Ratios: 7.*from \(None, 6\)"),
        (network(outputs=3), r"`network`.*\(batch, 5\).*to \(None, 3\)"),
        (two_inputs, r"`network`.*from \[\(None, 3\), \(None, 4\)\]"),
        (lambda *_, **__: None, "`network`.*from None to None"),
    ],
)
def test_networks_of_other_sizes_are_refused(made, match):
    with pytest.raises(ValueError, match=match):
        QANOracle(network=made)
    QANOracle(network=network())


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"gamma": "0.9"}, "`gamma` must be from 0 to 1.*'0.9'"),
        ({"tau": 0}, "`tau` must be more than 0"),
        ({"tau": 1.1}, "`tau` must be more than 0, and at most 1"),
        ({"delta": 0.0}, "`delta` must be more than 0"),
        ({"delta": -1}, "`delta` must be more than 0.*-1"),
        ({"margin_loss_weight": -0.1}, "`margin_loss_weight`"),
        ({"margin_loss_weight": np.nan}, "`margin_loss_weight`"),
        ({"margin": "wide"}, "`margin` must be a finite number, 0 or more.*margin='wide'"),
        ({"demo_fraction": 1.5}, "`demo_fraction` must be from 0 to 1"),
        ({"demo_fraction": None}, "`demo_fraction`"),
        ({"min_demos": -1}, "`min_demos` must be a whole number"),
        ({"min_demos": 2.5}, "`min_demos`"),
        ({"n_step": "3"}, "`n_step`"),
    ],
)
def test_numbers_of_the_agent_are_checked(arguments, match):
    with pytest.raises(ValueError, match=match):
        check_arguments(**arguments)
    with pytest.raises(ValueError, match=match):
        QANOracle(agent=arguments)


# -- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("goal, validation_data", [(("loss", 1e-9), None), (("loss", 1e-9), VAL)])
@pytest.mark.parametrize("every", [8, 20])
def test_an_episode_without_decisions_is_refused(
    tmp_path, no_training, goal, validation_data, every
):
    match = f"before there is anything to decide.*decision_every={every} for 8 steps"
    tuner = {"goal": goal, "decision_every": every}
    refused(tmp_path, match, tuner, validation_data=validation_data, epochs=1)


@pytest.mark.parametrize("arguments", [{"epochs": 2}, {"every": 7}, {"goal": ("val_loss", 1e-9)}])
def test_one_decision_is_enough(arguments):
    arguments = {"every": 8, "epochs": 1, "goal": ("loss", 1e-9)} | arguments
    training(**arguments).check()


def test_an_agent_of_another_kind_is_named():
    with pytest.raises(
        ValueError, match=r"`agent` must be a dictionary of arguments of `DQN`.*'dqn'"
    ):
        QANOracle(agent="dqn")


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_batches_without_samples_are_refused(tmp_path, batch_size):
    match = f"`batch_size` must be a positive integer.*{batch_size}"
    refused(tmp_path, match, {}, batch_size=batch_size)


def test_how_many_trials_may_fail_is_the_users(tmp_path):
    oracle = QANOracle(goal=("val_loss", 0.1), max_trials=40, max_consecutive_failed_trials=2)
    oracle._set_project_dir(str(tmp_path), "p")
    for _ in range(2):
        assert not oracle.has_failed()
        trial = oracle.create_trial("w")
        trial.status = "FAILED"
        oracle.end_trial(trial)
    assert oracle.has_failed() and oracle.create_trial("w").status == "STOPPED"


@pytest.mark.parametrize("arguments", [{"states": []}, {"actions": 5}])
def test_the_environment_refuses_them_too(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        TrainingEnv(build, *TRAIN, goal=("val_loss", 1e-9), validation_data=VAL, **arguments)


# -- bad input -----------------------------------------------------------------------------


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
        ({}, {"validation_data": (VAL[0][:, :4], VAL[1])}, "validation_data.*inputs of shape"),
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
        ({"max_trials": 5}, "`max_trials` must be at least"),
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
        ({"early_stop_factor": 0}, "`early_stop_factor` must be a finite number, 1 or more"),
        ({"shaping": -1}, "`shaping`"),
        ({"gradient_steps": 2.5}, "`gradient_steps`"),
        ({"contest": -1}, "`contest`"),
        ({"schedule_trials": 0.15}, "`schedule_trials` must be a whole number"),
        ({"schedule_trials": -3}, "`schedule_trials`"),
        ({"seed": -1}, "`seed` must be a whole number.*seed=-1"),
        ({"seed": "a"}, "`seed` must be a whole number"),
        ({"timeout": "a"}, "`timeout` must be more than 0.*'a'"),
        ({"shaping": np.inf}, "`shaping` must be a finite number, 0 or more.*inf"),
        ({"early_stop_factor": "2"}, "`early_stop_factor` must be a finite number, 1 or more.*'2'"),
        ({"epsilon": ("a", "b")}, "`epsilon` must be from 0 to 1.*'a'"),
        ({"network": "mlp"}, "`network` must be a dictionary of arguments of `q_network`.*'mlp'"),
        ({"network": {"units": 64}}, "`units` must hold sizes of layers.*64"),
        ({"network": {"units": (8, 0)}}, "`units` must be a positive integer.*0"),
        ({"goal": (None, 0.1)}, "`metric` must be the name of a metric.*None"),
        ({"goal": None, "objective": ("val_loss", 0.1)}, "`objective` must be the name.*0.1"),
        ({"goal": ("val_loss", 0.1), "objective": "val_loss"}, "exclude each other.*'val_loss'"),
        ({"actions": (0.5, 1, 2)}, r"`actions` must be an `Actions.*\(0.5, 1, 2\)"),
        ({"regressor": 0.01}, r"`regressor` must be a `Regressor.*0.01"),
        ({"regressor": Regressor}, "`regressor`"),
        ({"states": []}, r"`states` must be a list of `State`s, and not empty.*\[\]"),
        ({"states": Ratios()}, "`states` must be a list"),
        ({"states": ["rate"]}, r"`states`.*\['rate'\]"),
        ({"states": [Ratios]}, "`states`"),
    ],
)
def test_bad_options_are_named(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(tmp_path, **arguments)
