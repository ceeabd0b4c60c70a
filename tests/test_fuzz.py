"""Constructors and `set_hyperparameters`, driven with values of every type.

Each value gives an error that names its argument, or an object that works.
"""

import inspect
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_drmad import (
    DrMADAdamW,
    DrMADSGD,
    Knots,
    LearnHyperparameters,
    Rprop,
    Sign,
    paths,
    plots,
)
from keras_drmad.tuners import Actions, DrMADOracle, Goal, Method, OptunaOracle, Policy, QANOracle
from keras_drmad.tuners.qan.agent.dqn import check_arguments
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.states import Ratios

WORDS = ("layer", "learning_rate", "l2", "lr", "step", "uniform", "max", "min", "auto", "val_loss")
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([10**12, -(10**400), 2**63, 1e-300, 1e300, 5e-324]),
    st.floats(),
    st.floats(0, 1),
    st.complex_numbers(),
    st.text(max_size=4),
    st.sampled_from(WORDS),
    st.binary(max_size=3),
    st.sampled_from(
        [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a"), np.nan, np.zeros(2)]
    ),
    st.sampled_from([object(), int, math.sqrt, ..., range(3), keras.optimizers.SGD(0.1), Knots(2)]),
)
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.tuples(PLAIN, PLAIN),
    st.dictionaries(st.sampled_from(WORDS), PLAIN, max_size=2),
    st.sets(st.integers(0, 5), max_size=2),
)
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)
# Names of folders are made, and files are written to them.
LEFT_OUT = {"directory", "project_name", "self", "args", "kwargs", "optimizer", "tuner_arguments"}


def weights():
    ones = keras.ops.ones
    return [keras.Variable(ones((2, 2)), name="kernel"), keras.Variable(ones(1), name="bias")]


def trained(optimizer):
    """A step of it, and itself again from its config."""
    variables = weights()
    for made in (optimizer, type(optimizer).from_config(optimizer.get_config())):
        made.build(variables)
        made.apply([tf.ones((2, 2)), tf.ones(1)], variables)
        assert all(np.isfinite(v.numpy()).all() for v in (*variables, *made.variables))


def drmad(**arguments):
    optimizer = DrMADSGD(**arguments)
    if isinstance(optimizer.schedule, Knots):
        optimizer.span_schedule(50)
    return optimizer


def adamw(**arguments):
    optimizer = DrMADAdamW(**arguments)
    optimizer.span_schedule(50)
    return optimizer


adamw.__signature__ = inspect.signature(DrMADAdamW)
drmad.__signature__ = inspect.signature(DrMADSGD).replace(
    parameters=[
        *[p for n, p in inspect.signature(DrMADSGD).parameters.items() if n != "kwargs"],
        *[
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema")
        ],
        *[
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ("ema_momentum", "loss_scale_factor", "gradient_accumulation_steps")
        ],
    ]
)


def cut_whole(path):
    assert sum(segment.length for segment in path.segments(50)) == 50
    assert type(path)(**path.get_config()) == path


def knots(made):
    again = Knots.from_config(made.get_config())
    assert np.isfinite(again.over(60).positions([0, 59, 99]).sum()) if made.steps is None else True


def steers(actions):
    low, high = actions.bounds
    assert len(actions) > 1 and all(
        low <= actions.rate_after(i, 0.1) <= high for i in range(len(actions))
    )
    assert Actions(**actions.get_config()).all == actions.all


def measures(goal):
    assert not math.isnan(goal.gap(0.5, 0.7)) and Goal(**goal.get_config()).metric == goal.metric


def observed(state):
    assert state.size > 0 and type(state)(**state.get_config()).shape == state.shape


def schedule(made):
    assert all(math.isfinite(made(step)) and made(step) > 0 for step in (0, 3, 1e6))


def policy(made):
    assert made.decide(None) > 0 and made.decision_every > 0
    made.as_callback()


def hands_out(oracle):
    assert oracle.max_trials is None or oracle.max_trials > 0
    assert oracle.get_state()


POLICY = {
    "states": [Ratios()],
    "actions": Actions(),
    "goal": ("val_loss", 0.1),
    "decision_every": 2,
    "start_rate": 0.1,
    "budget": 8,
    "learning_rate": Schedule("constant", 0.1),
}
HYPER = (np.ones((4, 2), "float32"), np.ones(4, "float32"))
CASES = {
    "DrMADSGD": (drmad, {}, trained),
    "DrMADAdamW": (adamw, {}, trained),
    "Sign": (Sign, {}, trained),
    "Rprop": (Rprop, {}, trained),
    "Knots": (Knots, {}, knots),
    "SegmentMeans": (paths.SegmentMeans, {}, cut_whole),
    "Linear": (paths.Linear, {}, cut_whole),
    "Checkpointed": (paths.Checkpointed, {}, cut_whole),
    "LearnHyperparameters": (
        LearnHyperparameters,
        {"validation_data": HYPER},
        lambda made: made.validation.batch(0),
    ),
    "RecordPath": (plots.RecordPath, {}, lambda made: made.every > 0),
    "FilterAnimation": (plots.FilterAnimation, {"file": "a.gif"}, lambda made: made.every > 0),
    "Actions": (Actions, {}, steers),
    "Goal": (Goal, {"metric": "val_loss", "direction": "min"}, measures),
    "Ratios": (Ratios, {}, observed),
    "BagOfFilters": (BagOfFilters, {}, observed),
    "RawFilters": (RawFilters, {"inputs": 4}, observed),
    "Regressor": (Regressor, {}, lambda made: 0 <= made.strength <= 1),
    "Schedule": (Schedule, {"kind": "cosine", "peak": 0.1, "over": 9.0}, schedule),
    "Policy": (Policy, POLICY, policy),
    "Method": (Method, {"hypermodel": lambda hp: None}, repr),
    "DrMADOracle": (DrMADOracle, {}, hands_out),
    "OptunaOracle": (OptunaOracle, {}, hands_out),
    "check_arguments": (check_arguments, {}, lambda _: True),
}


def names(error, argument):
    """Whether an error is of the kind that users are told of, and names the argument."""
    assert isinstance(error, ValueError | TypeError), repr(error)
    return re.search(rf"\b{argument}\b", str(error))


@pytest.mark.parametrize("name", CASES)
def test_an_error_names_its_argument_or_the_object_works(name):
    make, base, works = CASES[name]
    arguments = [n for n in inspect.signature(make).parameters if n not in LEFT_OUT]

    @FUZZ
    @given(st.sampled_from(arguments), VALUES)
    def drive(argument, value):
        try:
            made = make(**{**base, argument: value})
        except Exception as error:
            assert names(error, argument), f"{argument}={value!r}: {error!r}"
        else:
            works(made)

    drive()


SEARCH = {"goal": ("val_loss", 0.1), "max_trials": 40, "network": {"units": (4,)}}


def test_a_search_names_its_argument_or_is_made():
    """As above, of an oracle that makes networks, which takes longer."""
    arguments = [n for n in inspect.signature(QANOracle).parameters if n not in LEFT_OUT]

    @settings(FUZZ, max_examples=60)
    @given(st.sampled_from(arguments), VALUES)
    def drive(argument, value):
        try:
            made = QANOracle(**{**SEARCH, argument: value})
        except Exception as error:
            assert names(error, f"{argument}|goal|metric|value|unit"), (
                f"{argument}={value!r}: {error!r}"
            )
        else:
            assert made.curriculum.next() is not None and made.get_state()

    drive()


ENTRIES = st.dictionaries(
    st.sampled_from(("learning_rate", "momentum", "l2", "lr", "beta")), VALUES, max_size=2
)
HYPERPARAMETERS = st.one_of(
    VALUES, st.dictionaries(st.sampled_from(("kernel", "bias", "zzz")), st.one_of(ENTRIES, VALUES))
)


@pytest.mark.parametrize("is_built", [True, False])
def test_hyperparameters_are_set_or_refused_as_a_whole(is_built):
    variables = weights()

    @FUZZ
    @given(HYPERPARAMETERS)
    def drive(values):
        optimizer = DrMADSGD(0.1, l2=1e-3)
        if is_built:
            optimizer.build(variables)
            before = optimizer.hyperparameters
        try:
            optimizer.set_hyperparameters(values)
            if not is_built:
                optimizer.build(variables)  # where groups are known
        except ValueError as error:
            assert re.search("hyperparameter|Unknown group", str(error))
            if is_built:
                assert optimizer.hyperparameters == before
        else:
            found = optimizer.hyperparameters
            assert all(np.isfinite(v).all() for of in found.values() for v in of.values())

    drive()


@FUZZ
@given(
    st.sampled_from(
        ("learn", "per", "schedule", "nesterov", "momentum", "learning_rate", "clipnorm")
    ),
    VALUES,
)
def test_what_is_assigned_is_checked_as_well(argument, value):
    optimizer = DrMADSGD(0.1)
    try:
        setattr(optimizer, argument, value)
    except Exception as error:
        assert names(error, argument), f"{argument}={value!r}: {error!r}"
    else:
        optimizer.span_schedule(50)
        trained(optimizer)
