"""A training that learns is broken off: what goes on with it, and what begins anew."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_learn import HYPER, _without_xla, arrays, mlp, weights  # noqa: F401  (a fixture)

from keras_drmad import LearnHyperparameters, Rprop, Sign
from keras_drmad.callbacks.averages import Averages
from keras_drmad.engine.programs import TrainingState

SHORT = {"horizon": 4}


class Breaks(keras.callbacks.Callback):
    """Breaks off as Ctrl-C does, at the end of a batch or at the beginning of an epoch."""

    def __init__(self, batch=None, epoch=None, error=KeyboardInterrupt):
        super().__init__()
        self.batch, self.epoch, self.error = batch, epoch, error

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            raise self.error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise self.error


def rates(model):
    return [values["learning_rate"] for values in model.optimizer.hyperparameters.values()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(("times", "plainly_between"), [(1, False), (1, True), (2, False)])
def test_the_next_training_learns(caplog, error, times, plainly_between):
    model = mlp()
    for _ in range(times):
        with pytest.raises(error):
            callbacks = [LearnHyperparameters(HYPER, **SHORT), Breaks(batch=2, error=error)]
            arrays(model, verbose=0, callbacks=callbacks)
    if plainly_between:
        arrays(model, verbose=0)
    before = rates(model)
    arrays(model, epochs=2, verbose=0, callbacks=[LearnHyperparameters(HYPER, **SHORT)])
    assert rates(model) != before
    assert "Nothing was learned" not in caplog.text


def test_it_goes_on_to_the_same_result(tmp_path):
    """The meta-optimizer, the guard, its place to go back to, and the draws of hyper samples."""
    settings = {"samples": 10, "validation_batch_size": 5, "averages": True} | SHORT

    def fit(model, *more):
        np.random.seed(len(more))  # the seed of the draws is restored, too
        learn = LearnHyperparameters(HYPER, **settings)
        callbacks = [learn, keras.callbacks.BackupAndRestore(tmp_path / "backup"), *more]
        arrays(model, epochs=6, verbose=0, callbacks=callbacks)

    def whole():
        model = mlp()
        np.random.seed(1)
        arrays(model, epochs=6, verbose=0, callbacks=[LearnHyperparameters(HYPER, **settings)])
        return model

    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), Breaks(epoch=2))
    resumed, expected = mlp(), whole()
    fit(resumed)
    for ours, theirs in zip(weights(resumed), weights(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(
        resumed.optimizer.as_logs().values(), expected.optimizer.as_logs().values(), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.fixture
def checkpoint(tmp_path):
    """A model saved in the midst of a training that learns."""
    file = tmp_path / "model.keras"
    learn = LearnHyperparameters(HYPER, meta_optimizer=Sign(0.1), **SHORT)
    saved = keras.callbacks.ModelCheckpoint(file, save_freq=6)
    arrays(mlp(), epochs=2, verbose=0, callbacks=[learn, saved])
    return file


@pytest.mark.parametrize("initial_epoch", [0, 1])
def test_a_checkpoint_goes_on_only_from_its_epoch(checkpoint, initial_epoch):
    """What a training that begins anew learns, it learns as if the weights were its initial ones."""

    def learned(forgets):
        model = keras.models.load_model(checkpoint)
        assert model.optimizer.companion_state
        if forgets:
            model.optimizer.companion_state = None
        np.random.seed(0)
        learn = LearnHyperparameters(HYPER, meta_optimizer=Sign(0.1), **SHORT)
        arrays(model, epochs=3, initial_epoch=initial_epoch, verbose=0, callbacks=[learn])
        assert model.optimizer.companion_state is None
        return learn._draws

    assert learned(forgets=False) - learned(forgets=True) == initial_epoch


@pytest.mark.parametrize(
    ("meta", "kinds"), [(Rprop(), None), (Sign(0.2), None), (Sign(0.1), ("l2",))]
)
def test_what_was_broken_off_otherwise_is_learned_anew(checkpoint, caplog, meta, kinds):
    """State of another meta-optimizer, or of other hyperparameters, fits no more."""
    model = keras.models.load_model(checkpoint)
    model.optimizer.learn = kinds or model.optimizer.learn
    learn = LearnHyperparameters(HYPER, meta_optimizer=meta, **SHORT)
    arrays(model, epochs=3, initial_epoch=1, verbose=0, callbacks=[learn])
    assert learn._draws == 2  # a window an epoch, from the first on
    assert "learning begins anew" in caplog.text


def test_averages_are_summed_in_numbers_that_are_wide_enough():
    averages = Averages()
    weights = [tf.constant([1.1], tf.bfloat16)]
    now = TrainingState(weights, [], [], [], [], ())
    for window in range(10):
        for _ in range(100):
            averages.add(weights)
        averages.drop() if window % 2 else averages.accept()
    again = Averages(averages.arrays())
    for found in (averages, again):
        (mean,) = found.state(now).weights
        assert mean.dtype == tf.bfloat16
        assert float(mean[0]) == float(weights[0][0])
