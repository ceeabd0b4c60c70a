"""What fails always is said before the first trial; what fails in all trials, at the end."""

import functools
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, TRAIN, L, build, make, search, trials

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner, QANTuner
from keras_drmad.tuners.drmad import training

pytestmark = pytest.mark.slow

STEPS_ARE_CHECKED = True

QAN = {"goal": ("val_loss", 1e-9), "max_trials": 10, "contest": 0, "decision_every": 2, "seed": 0}


def refused(
    tmp_path: Any, hypermodel: Any, match: str, error: Any = ValueError, **tuner: Any
) -> None:
    made = make(tmp_path, hypermodel, **tuner)
    with pytest.raises(error, match=match):
        search(made)
    assert not made.oracle.trials


# -- before the first trial -------------------------------------------------------------------


def test_what_the_engine_refuses(tmp_path: Any) -> None:
    accumulating = functools.partial(build, gradient_accumulation_steps=2)
    refused(tmp_path, lambda hp: accumulating(hp), "gradient_accumulation_steps")


def test_wrong_hyper_variables(tmp_path: Any) -> None:
    refused(
        tmp_path,
        build,
        "`hyper_variables`",
        hyper_variables=lambda model: model.trainable_variables,
    )


def test_losses_without_a_second_derivative(tmp_path: Any) -> None:
    def quantized(hp: Any) -> keras.Model:
        rounded = L.Lambda(lambda x: tf.quantization.fake_quant_with_min_max_args(x))
        model = keras.Sequential([L.Input((5,)), L.Dense(4), rounded, L.Dense(1)])
        model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
        return model

    refused(tmp_path, quantized, "differentiated twice")


def test_metrics_that_do_not_fit(tmp_path: Any) -> None:
    class Refuses(keras.metrics.Mean):
        def update_state(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("no such metric")

    def refusing(hp: Any) -> keras.Model:
        model = build(hp)
        model.compile(DrMADSGD(0.05), "mse", metrics=[Refuses()], jit_compile=False)
        return model

    refused(tmp_path, refusing, "no such metric")


def test_an_objective_that_nothing_logs(tmp_path: Any) -> None:
    objective = keras_tuner.Objective("val_auc", "max")
    refused(tmp_path, build, "val_mae", keras_tuner.errors.FatalValueError, objective=objective)


class Forgetful(L.Dense):
    def load_own_variables(self, store: Any) -> None:
        raise NotImplementedError("forgotten")


def test_weights_that_cannot_be_loaded(tmp_path: Any) -> None:
    def forgetful(hp: Any) -> keras.Model:
        model = keras.Sequential([L.Input((5,)), Forgetful(1)])
        model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
        return model

    refused(tmp_path, forgetful, r"could not be loaded again(.|\n)*forgotten")


def test_a_model_that_is_too_large(tmp_path: Any) -> None:
    refused(tmp_path, build, "Oversized", keras_tuner.errors.FailedTrialError, max_model_size=3)


def test_the_first_training_is_prepared_once(tmp_path: Any, monkeypatch: Any) -> None:
    made: list[keras.Model] = []
    engine = training.Engine.of
    monkeypatch.setattr(
        training.Engine, "of", lambda model, *args: made.append(model) or engine(model, *args)
    )
    tuner = search(make(tmp_path, max_trials=2), epochs=3)
    assert len(made) == 1
    programs = tuner._trainings.current.engine.programs
    counts = [programs.validate.programs()]
    assert counts == [1]


# -- models that are not built ----------------------------------------------------------------


class Unbuilt(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = L.Dense(4, "tanh"), L.Dense(1)

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x["a"] + x["b"][0]))


def unbuilt(hp: Any = None) -> keras.Model:
    model = Unbuilt()
    model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
    return model


def nested(x: np.ndarray) -> dict[str, Any]:
    return {"a": x, "b": (x,)}


@pytest.mark.slow
def test_models_that_are_not_built_come_back_in_another_process(tmp_path: Any) -> None:
    tuner = make(tmp_path, unbuilt, max_trials=2)
    validation = nested(HYPER[0]), HYPER[1]
    tuner.search(nested(TRAIN[0]), TRAIN[1], validation_data=validation, batch_size=10, verbose=0)
    loss = tuner.get_best_models()[0].evaluate(*validation, verbose=0)
    assert loss == pytest.approx(min(t.score for t in trials(tuner)), rel=1e-5)
    script = f"""
        from test_tuner_failures import *
        tuner = make({str(tmp_path)!r}, unbuilt, max_trials=2)
        print(tuner.get_best_models()[0].evaluate(nested(HYPER[0]), HYPER[1], verbose=0))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(run.stdout.split()[-1]) == pytest.approx(loss, rel=1e-5)


# -- in a trial -------------------------------------------------------------------------------


def test_one_configuration_is_refused_and_others_go_on(tmp_path: Any) -> None:
    def some(hp: Any) -> keras.Model:
        # The first is the default one.
        return build(hp, gradient_accumulation_steps=hp.Choice("steps", [0, 2]) or None)

    tuner = make(
        tmp_path,
        some,
        max_trials=5,
        meta_iterations=2,
        outer_oracle=keras_tuner.oracles.GridSearchOracle(),
    )
    search(tuner)
    status = [t.status for t in trials(tuner)]
    assert status == ["COMPLETED"] * 2 + ["FAILED"]
    assert "gradient_accumulation_steps" in trials(tuner)[2].message


class Fails(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:
        raise keras_tuner.errors.FailedTrialError("this one fails")


def test_a_search_in_which_every_trial_failed_raises(tmp_path: Any) -> None:
    with pytest.raises(RuntimeError, match=r"all its 2 trials failed.\n(.|\n)*this one fails"):
        search(make(tmp_path, max_trials=2), callbacks=[Fails()])
    with pytest.raises(RuntimeError, match="this one fails"):  # going on, too
        search(make(tmp_path, max_trials=2))


def test_so_does_that_of_a_schedule(tmp_path: Any) -> None:
    tuner = QANTuner(build, directory=tmp_path, **QAN)
    with pytest.raises(RuntimeError, match="this one fails"):
        tuner.search(*TRAIN, validation_data=HYPER, verbose=0, epochs=2, callbacks=[Fails()])


# -- what is ignored, or not taken ------------------------------------------------------------


@pytest.fixture(params=[DrMADTuner, QANTuner])
def tuner(request: Any, tmp_path: Any) -> Any:
    arguments = QAN if request.param is QANTuner else {}
    return functools.partial(request.param, directory=tmp_path, **arguments)


class Plain(keras_tuner.HyperModel):
    def build(self, hp: Any) -> keras.Model:
        return build(hp)


class Fits(Plain):
    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


def test_a_fit_of_the_hypermodel_is_warned_of(tuner: Any) -> None:
    tuner(Plain())  # warnings are errors here
    with pytest.warns(UserWarning, match="`fit` of Fits is not called"):
        tuner(Fits())


@pytest.mark.parametrize(
    ("argument", "fix"),
    [
        ("class_weight", "`sample_weight`"),
        ("validation_split", "`validation_data`"),
        ("steps_per_epoch", "take"),
        ("validation_steps", "take"),
        ("initial_epoch", "Leave it out"),
        ("workers", "PyDataset"),
        ("something", "does not know"),
    ],
)
def test_arguments_of_fit_are_refused_in_the_same_words(
    tuner: Any, argument: str, fix: str
) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`.*{fix}"):
        tuner(build).search(*TRAIN, validation_data=HYPER, verbose=0, **{argument: 1})


class OwnStep(keras.Sequential):
    """Trains on twice the loss that it is compiled with."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = 2 * self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


def test_an_own_train_step_is_refused(tmp_path: Any) -> None:
    def own(hp: Any) -> keras.Model:
        model = OwnStep([L.Input((5,)), L.Dense(1)])
        model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
        return model

    refused(tmp_path, own, "`train_step` of its own")


def test_averages_of_weights_are_kept(tmp_path: Any) -> None:
    """`fit` puts them into the model when it ends: they were all zero."""

    def averaged(hp: Any) -> keras.Model:
        return build(hp, use_ema=True, ema_momentum=0.5)

    tuner = search(make(tmp_path, averaged, max_trials=1))
    weights = tuner.get_best_models()[0].get_weights()
    assert all(np.abs(w).max() > 1e-4 for w in weights)
