"""Episodes on several replicas (`tf.distribute`)."""

import gc

import keras
import numpy as np
import pytest
from qan_task import TRAIN, VAL, X, Y, build, make, search, training

from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.report import STOP
from keras_drmad.tuners.qan.training.states import Ratios

pytestmark = pytest.mark.slow

L = keras.layers


@pytest.fixture
def mirrored(two_replicas):
    def built(build=build):
        with two_replicas.scope():
            return build()

    return built


def test_two_devices_see_what_one_sees(mirrored):
    def episode(build):
        task = training(
            states=[Ratios(Ratios.ALL)],
            batch_size=10,
            epochs=3,
            goal=("val_loss", 1e-9),
            build=build,
        )
        reports, _ = task.run(0, lambda report: [1 + report.step % 3])
        return reports

    one, two = episode(build), episode(mirrored)
    assert [r.step for r in two] == [0, 3, 6, 7, 10, 13, 14, 17, 20, 21]
    for a, b in zip(one, two, strict=True):
        assert (a.step, a.ended) == (b.step, b.ended)
        np.testing.assert_allclose(a.observation, b.observation, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(a.rates, b.rates)


def test_episodes_on_two_devices(tmp_path, mirrored, two_replicas):
    few = {"max_trials": 6, "contest": 0, "schedule_trials": 1, "guided_trials": 1}
    tuner = search(make(tmp_path, distribution_strategy=two_replicas, **few), epochs=1)
    assert all(e.ended in ("reached", "truncated") for e in tuner.oracle.curriculum.episodes)
    callback = tuner.get_best_policy("network").as_callback(VAL)
    mirrored().fit(*TRAIN, batch_size=8, epochs=2, callbacks=[callback], verbose=0)
    assert [report.step for report in callback.reports] == [0, 3, 6, 8, 11, 14, 16]


def test_a_stopped_episode_leaves_no_iterator(mirrored):
    """One that is left waits, when Python finds it at last, up to a minute for its thread."""
    task, before = training(build=lambda: mirrored(build), epochs=1), iterators()
    gc.disable()
    try:
        task.run(0, lambda report: STOP if report.step == 3 else 0.01)
        assert iterators() <= before
    finally:
        gc.enable()


def iterators():
    return {id(o) for o in gc.get_objects() if type(o).__name__ == "DistributedIterator"}


@pytest.mark.parametrize("samples", [31, 1100])
def test_two_devices_validate_on_odd_numbers(samples, mirrored):
    odd = np.resize(X, (samples, 6)), np.resize(Y, samples)
    model, one = mirrored(), build()
    one.set_weights(model.get_weights())
    found = Validation(odd, batch_size=1025)(model)["val_loss"]
    assert found == pytest.approx(one.evaluate(*odd, verbose=0))


def test_models_without_weights_are_built_on_two_devices(mirrored):
    def build():
        model = keras.Sequential([L.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    task = training(build=lambda: mirrored(build), goal=("val_loss", 1e-9), epochs=1)
    reports, _ = task.run(0, lambda report: [2])
    assert [report.step for report in reports] == [0, 3, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 9}, "2 replicas must share batches evenly.*9 samples"),
        ({"actions": Actions(sample_selection=("uniform", "hardest"))}, "needs one replica"),
    ],
)
def test_what_two_devices_cannot_do_is_refused(arguments, message, mirrored):
    with pytest.raises(ValueError, match=message):
        training(build=mirrored, **arguments)
