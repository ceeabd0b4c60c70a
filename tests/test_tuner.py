"""`DrMADTuner`: trials that train, walk back, and can be used afterwards."""

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, SELECTION, TRAIN, L, build, make, result, scores, search, trials

from keras_drmad import DrMADSGD, hypergradient, paths
from keras_drmad.data import ArrayBatches, Later
from keras_drmad.tuners.drmad.data import SearchData
from keras_drmad.tuners.drmad.place import (
    DIFFERENTIATE,
    GRADIENT_NUMBER,
    ITERATION,
    RUN,
    SEED,
    STAGE,
    seed_of,
)

# -- what a trial is ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    keras.utils.set_random_seed(0)
    tuner = make(tmp_path_factory.mktemp("finished"), max_trials=6)
    return search(tuner, selection_data=SELECTION)


def test_the_search_improves(finished):
    assert min(scores(finished)[3:]) < 0.7 * scores(finished)[0]


def test_a_trial_is_a_training_and_its_hypergradient(tmp_path):
    """Against `hypergradient` on a model built by hand, with an exact path."""
    kept = {"path": paths.Stored(), "keep_checkpoints": 2, "max_trials": 2}
    tuner = search(make(tmp_path, **kept, meta_optimizer=keras.optimizers.SGD(0.1)))
    seed = seed_of(trials(tuner)[0].hyperparameters.values, 0, tuner.resample)
    keras.utils.set_random_seed(seed)
    model = build(None)
    found = hypergradient(
        model,
        TRAIN,
        HYPER,
        steps=16,
        batch_size=10,
        seed=seed,
        path=paths.Stored(),
        jit_compile=False,
    )
    assert trials(tuner)[0].score == pytest.approx(found.validation_loss, rel=1e-5)
    first, second = (result(tuner, t.trial_id) for t in trials(tuner))
    for kind in ("learning_rate", "momentum", "l2"):
        by_hand = np.array([found.gradients[group][kind] for group in ("a", "b")])
        scale = build(None).optimizer.scales[kind]
        slope = scale.slope(np.float32(0)).numpy() * (0.02 if kind == "learning_rate" else 1)
        np.testing.assert_allclose(first.gradients[kind], by_hand * slope, rtol=1e-4)
        moved = first.values[kind] - np.float32(0.1) * first.gradients[kind]
        moved = scale.clip(moved).numpy()
        np.testing.assert_allclose(second.values[kind], moved, rtol=1e-5, atol=1e-8)


def test_the_best_model_is_the_trained_one(finished):
    model = finished.get_best_models()[0]
    loss, mae = model.evaluate(*SELECTION, verbose=0)
    best = finished.oracle.get_best_trials()[0]
    assert loss == pytest.approx(best.score, rel=1e-5)
    assert loss == pytest.approx(best.metrics.get_best_value("val_loss"), rel=1e-5)
    assert mae == pytest.approx(best.metrics.get_best_value("val_mae"), rel=1e-5)
    hyper_loss, _ = model.evaluate(*HYPER, verbose=0)
    assert hyper_loss == pytest.approx(best.metrics.get_best_value("hyper_loss"), rel=1e-5)
    with pytest.raises(ValueError, match="keep_checkpoints"):
        finished.get_best_models(2)


def test_the_best_optimizer_carries_what_was_learned(finished):
    learned = finished.get_best_models()[0].optimizer.hyperparameters
    assert learned["a"]["learning_rate"] != pytest.approx(0.02, rel=1e-3)
    model = build(None)
    model.compile(finished.get_best_optimizer(), "mse", jit_compile=False)
    model.optimizer.learn = ()
    model.fit(*TRAIN, verbose=0)
    assert model.optimizer.hyperparameters == learned
    assert int(model.optimizer.iterations.numpy()) == 3


# -- options --------------------------------------------------------------------------------


def initial_weights(tuner):
    """Records the weights that each training of a tuner starts from."""
    seen = []

    def on_train_begin(logs):
        seen.append(tuner._trainings.current.model.get_weights()[0])

    return seen, keras.callbacks.LambdaCallback(on_train_begin=on_train_begin)


@pytest.mark.slow
@pytest.mark.parametrize("resample", [True, False])
def test_resampling_draws_new_weights(tmp_path, resample):
    tuner = make(tmp_path, max_trials=2, resample=resample)
    seen, callback = initial_weights(tuner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copy.deepcopy", lambda value: value)
        search(tuner, callbacks=[callback])
    assert np.array_equal(*seen) is not resample


@pytest.mark.slow
def test_executions_are_averaged(tmp_path):
    tuner = search(make(tmp_path, max_trials=1, executions_per_trial=2))
    one = search(make(tmp_path, max_trials=1, project_name="one"))
    trial = trials(tuner)[0]
    assert trial.score != one.oracle.trials["0"].score
    found = result(tuner, "0").gradients["l2"]
    first = result(one, "0").gradients["l2"]
    assert not np.allclose(found, first)


@pytest.mark.slow
def test_a_short_horizon_sees_the_last_steps(tmp_path):
    def gradient(name, **arguments):
        tuner = search(make(tmp_path, max_trials=1, project_name=name, **arguments))
        return result(tuner, "0").gradients["learning_rate"]

    exact = {"path": paths.Stored(), "judge": "mean"}
    short = gradient("short", horizon=5, **exact)
    long = gradient("long", **exact)
    whole = gradient("whole", horizon=16, **exact)
    np.testing.assert_allclose(long, whole, rtol=1e-5)
    place = {RUN: 0, ITERATION: 0, GRADIENT_NUMBER: 0, SEED: 0, STAGE: DIFFERENTIATE}
    seed = seed_of(place, 0, resample=True)
    keras.utils.set_random_seed(seed)
    model, batches = build(None), ArrayBatches(TRAIN, 10, seed)
    hypergradient(model, batches, HYPER, steps=11, jit_compile=False)
    last = hypergradient(model, Later(batches, 11), HYPER, steps=5, jit_compile=False, **exact)
    by_hand = np.array([last.gradients[group]["learning_rate"] for group in ("a", "b")])
    np.testing.assert_allclose(short, by_hand * 0.02, rtol=1e-4)


def test_training_that_ends_before_the_horizon_begins_says_so(tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10)
    with pytest.raises(RuntimeError, match=r"ended after 16 of 32 steps.*`horizon=5`"):
        search(make(tmp_path, horizon=5), epochs=4, callbacks=[stop])


def test_hyper_variables_are_learned_and_restored(tmp_path):
    class Scaled(keras.Regularizer):
        def __init__(self):
            self.log = keras.Variable(np.full((5, 4), -6.0, "float32"), trainable=False)

        def __call__(self, w):
            return keras.ops.sum(keras.ops.exp(self.log) * w**2)

    def with_penalty(hp):
        dense = L.Dense(4, "tanh", kernel_regularizer=Scaled())
        model = keras.Sequential([L.Input((5,)), dense, L.Dense(1)])
        model.compile(DrMADSGD(0.02, learn=()), "mse", jit_compile=False)
        return model

    tuner = make(
        tmp_path, with_penalty, hyper_variables=lambda m: [m.layers[0].kernel_regularizer.log]
    )
    search(tuner)
    best = result(tuner, trials(tuner)[-1].trial_id)
    assert not np.allclose(best.values["hyper_variable_0"], -6.0)
    restored = tuner.get_best_models()[0].layers[0].kernel_regularizer.log.numpy()
    kept = tuner.oracle.get_best_trials()[0].trial_id
    held = result(tuner, kept).values["hyper_variable_0"]
    np.testing.assert_array_equal(restored, held)


@pytest.mark.slow
def test_architectures_get_runs_of_their_own(tmp_path):
    def widths(hp):
        model = keras.Sequential([L.Input((5,)), L.Dense(hp.Choice("w", [2, 3])), L.Dense(1)])
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        return model

    outer = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=None, seed=0)
    tuner = search(make(tmp_path, widths, meta_iterations=2, outer_oracle=outer))
    used = [t.hyperparameters.values["w"] for t in trials(tuner)]
    assert sorted(used) == [2, 2, 3, 3]
    best = tuner.get_best_hyperparameters()[0]
    assert tuner.get_best_models()[0].layers[0].units == best.get("w")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The folder of a search with callbacks."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("watched")
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10)
    board = keras.callbacks.TensorBoard(folder / "board")
    csv = keras.callbacks.CSVLogger(folder / "log.csv", append=True)
    search(make(folder, max_trials=2), epochs=5, callbacks=[stop, board, csv])
    return folder


def test_callbacks_are_kerass(watched):
    rows = (watched / "log.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,val_loss,val_mae"
    assert len(rows) == 1 + 2 * 2  # stopped after the second epoch
    assert list((watched / "board" / "0" / "execution0").glob("events*"))


def test_training_that_ends_between_two_validations_is_validated(tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10)
    tuner = search(make(tmp_path, max_trials=1), epochs=4, validation_freq=4, callbacks=[stop])
    loss, mae = tuner.get_best_models()[0].evaluate(*HYPER, verbose=0)
    assert trials(tuner)[0].score == pytest.approx(loss, rel=1e-5)
    assert trials(tuner)[0].metrics.get_best_value("val_mae") == pytest.approx(mae, rel=1e-5)


def test_a_scheduler_drives_the_global_rate(tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(float(self.model.optimizer.learning_rate.numpy()))

    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.02 / 2**epoch)
    tuner = search(make(tmp_path, max_trials=2), epochs=3, callbacks=[halve, Watch()])
    assert len(tuner.oracle.trials) == 2
    assert seen == pytest.approx([0.02, 0.01, 0.005] * 2)


def test_batch_events_end_with_the_epoch(tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, round(logs["loss"], 2) > 0))

    search(make(tmp_path, max_trials=1), callbacks=[Watch()])
    assert seen == [(7, True)] * 2  # 8 batches an epoch, in one stack


def test_the_loss_is_that_of_the_steps_also_of_a_model_without_metrics(tmp_path):
    seen = []

    def bare(hp):
        model = keras.Sequential([L.Input((5,)), L.Dense(1)])
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        return model

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["loss"])

    tuner = search(make(tmp_path, bare, max_trials=1, objective="loss"), callbacks=[Watch()])
    assert min(seen) > 0.01
    assert scores(tuner) == [seen[-1]]


def test_a_rate_that_a_callback_lowered_is_restored(tmp_path):
    first = []

    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                first.append(float(self.model.optimizer.learning_rate.numpy()))
            self.model.optimizer.learning_rate = 1e-4

    search(make(tmp_path, max_trials=2), callbacks=[Lower()])
    assert first == pytest.approx([0.02, 0.02])


def test_data_may_come_in_batches(tmp_path):
    stream = tf.data.Dataset.from_tensor_slices(TRAIN).batch(16)
    hyper = tf.data.Dataset.from_tensor_slices(HYPER).batch(16)
    tuner = make(tmp_path, max_trials=2)
    tuner.search(stream, epochs=2, validation_data=hyper, verbose=0)
    assert trials(tuner)[0].status == "COMPLETED"


def test_without_shards_all_train_on_everything(tmp_path):
    data = SearchData(TRAIN, HYPER, None, 10, True, shards=1)
    for number in range(3):
        assert data.training(0, number).samples == 80


@pytest.mark.slow
def test_shards_train_on_a_part(tmp_path):
    tuner = search(make(tmp_path, max_trials=2, gradients_per_step=2, shard=True), epochs=1)
    assert int(tuner._trainings.current.optimizer.iterations.numpy()) == 4  # of 8 batches


@pytest.mark.slow
def test_two_devices_find_what_one_finds(tmp_path, two_replicas):
    """Batches of 9: shares of 5 and 4 samples."""
    one = search(make(tmp_path / "one", max_trials=2), batch_size=9)
    two = search(
        make(tmp_path / "two", max_trials=2, distribution_strategy=two_replicas), batch_size=9
    )
    assert len(two._trainings.current.engine.objective.devices) == 2
    np.testing.assert_allclose(scores(one), scores(two), rtol=1e-5)
    for a, b in zip(trials(one), trials(two), strict=True):
        assert a.hyperparameters.values == b.hyperparameters.values
    model = two.get_best_models()[0]
    assert model.evaluate(*HYPER, verbose=0)[0] == pytest.approx(min(scores(one)), rel=1e-5)
