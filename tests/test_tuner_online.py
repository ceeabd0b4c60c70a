"""`DrMADTuner(online=True)`: trials that learn while they train, and the schedule that they leave."""

import keras
import numpy as np
import pytest
from drmad_task import HYPER, TRAIN, build, make, result, scores, search, trials

from keras_drmad import DrMADSGD, Knots, LearnHyperparameters, paths
from keras_drmad.data import ArrayBatches
from keras_drmad.tuners.drmad.costs import COST
from keras_drmad.tuners.drmad.online import decided, drawn_together
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, LEARN, STAGE, seed_of


@pytest.fixture(autouse=True, scope="module")
def _without_xla():
    from keras_drmad.engine import model_setup

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_setup, "prefers_xla", lambda *arguments: False)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tuner = make(tmp_path_factory.mktemp("online"), max_trials=4, online=True, keep_checkpoints=4)
    return search(tuner)


def test_two_trials_learn_and_the_others_are_differentiated(finished):
    stages = [trial.hyperparameters.values[STAGE] for trial in trials(finished)]
    assert stages == [LEARN, LEARN, DIFFERENTIATE, DIFFERENTIATE]
    assert all(np.isfinite(scores(finished)))
    costs = [trial.metrics.get_best_value(COST + "trainings") for trial in trials(finished)]
    assert min(costs) > 1.0


def test_the_first_to_be_differentiated_has_the_mean_of_the_schedules(finished):
    first, second, third = (result(finished, trial.trial_id) for trial in trials(finished)[:3])
    assert not first.gradients and not second.gradients and third.gradients
    for name, values in third.values.items():
        np.testing.assert_allclose(
            values, (first.values[name] + second.values[name]) / 2, rtol=1e-5, atol=1e-7
        )
    assert np.ptp(third.values["learning_rate"]) > 0.05  # it is a schedule


def test_a_trial_that_learns_is_a_training_with_the_callback(finished):
    trial = trials(finished)[1]
    seed = seed_of(trial.hyperparameters.values, 0, finished.resample)
    keras.utils.set_random_seed(seed)
    model = build(None, schedule=Knots(4))
    batches = ArrayBatches(TRAIN, 10, seed)

    class InOrder(keras.utils.PyDataset):
        epoch = 0

        def __len__(self):
            return 8

        def __getitem__(self, i):
            return batches.batch(8 * self.epoch + i)[:2]

        def on_epoch_end(self):
            self.epoch += 1

    learn = LearnHyperparameters(HYPER, check=False)
    history = model.fit(
        InOrder(), epochs=2, shuffle=False, verbose=0, callbacks=[learn], validation_data=HYPER
    )
    assert trial.score == pytest.approx(history.history["val_loss"][-1], rel=1e-4)
    rates = model.optimizer.displacements["learning_rate"].numpy()
    kept = result(finished, trial.trial_id).values["learning_rate"]
    np.testing.assert_allclose(kept, drawn_together(rates, 4), rtol=1e-4, atol=1e-6)


def test_the_best_optimizer_carries_the_schedule(finished):
    optimizer = finished.get_best_optimizer(steps=160)
    assert (optimizer.schedule.count, optimizer.schedule.steps) == (4, 160)
    model = finished.load_model(trials(finished)[3])
    rates = model.optimizer.hyperparameters["a"]["learning_rate"]
    assert rates.shape == (4,) and np.ptp(rates) > 0
    assert model.evaluate(*HYPER, verbose=0)[0] == pytest.approx(scores(finished)[3], rel=1e-5)


@pytest.mark.slow
def test_it_goes_on_to_the_same_result(finished, tmp_path):
    tuner = make(tmp_path, max_trials=4, online=True, keep_checkpoints=4)
    train, count = tuner.train_trial, []

    def killed(*arguments, **more):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **more)

    tuner.train_trial = killed
    with pytest.raises(KeyboardInterrupt):
        search(tuner)
    again = search(make(tmp_path, max_trials=4, online=True, keep_checkpoints=4))
    np.testing.assert_allclose(scores(again), scores(finished), rtol=1e-5)


@pytest.mark.slow
def test_executions_leave_the_mean_of_their_schedules(tmp_path):
    tuner = make(tmp_path, max_trials=1, online=True, executions_per_trial=2)
    from keras_drmad.tuners.drmad import executions as module

    found = []
    with pytest.MonkeyPatch.context() as patch:
        learn = module.learn
        patch.setattr(module, "learn", lambda *a, **k: found.append(learn(*a, **k)) or found[-1])
        search(tuner)
    kept = result(tuner, trials(tuner)[0].trial_id).values["learning_rate"]
    both = [outcome.values["learning_rate"] for outcome in found]
    assert not np.allclose(*both)
    np.testing.assert_allclose(kept, np.mean(both, 0), rtol=1e-5)


def built(hp):
    model = build(hp)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    "hypermodel, words",
    [
        (built, "one that is built"),
        (lambda hp: build(hp, learn=("learning_rate", "init_scale")), "init_scale"),
    ],
)
def test_what_cannot_learn_is_refused_before_training(tmp_path, hypermodel, words):
    with pytest.raises(ValueError, match=words):
        search(make(tmp_path, hypermodel, online=True))


@pytest.mark.slow
def test_a_schedule_of_the_models_own_stays(tmp_path):
    def own(hp):
        return build(hp, schedule=Knots(3, kinds="learning_rate"))

    tuner = search(make(tmp_path, own, max_trials=1, online=True))
    optimizer = tuner.get_best_optimizer()
    assert isinstance(optimizer, DrMADSGD) and optimizer.schedule.knots == 3
    assert optimizer.schedule.kinds == ("learning_rate",)


def test_there_is_no_best_optimizer_before_a_search(tmp_path):
    with pytest.raises(ValueError, match="call `search` first"):
        make(tmp_path).get_best_optimizer()


def test_short_trainings_learn_only_where_it_is_asked_for(tmp_path):
    tuner = search(make(tmp_path, max_trials=1))  # of 16 steps
    assert trials(tuner)[0].hyperparameters.values[STAGE] == DIFFERENTIATE
    assert tuner.get_best_optimizer().schedule is None


@pytest.mark.parametrize(
    "optimizer, path, steps, expected",
    [
        (DrMADSGD(), paths.SegmentMeans(), 100, True),
        (DrMADSGD(), paths.SegmentMeans(), 99, False),
        (DrMADSGD(), paths.Reversible(), 100, False),
        (DrMADSGD(learn=()), paths.SegmentMeans(), 100, False),
        (DrMADSGD(learn=("l2", "init_scale")), paths.SegmentMeans(), 100, False),
    ],
)
def test_trials_learn_by_themselves_where_they_can(optimizer, path, steps, expected):
    assert decided("auto", optimizer, path, steps) is expected
    assert decided(False, optimizer, path, steps) is False


def test_what_learns_is_fed_lists_of_inputs(tmp_path):
    def two_inputs(hp):
        inputs = [keras.layers.Input((5,)) for _ in range(2)]
        both = keras.layers.Concatenate()(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(both))
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        return model

    tuner = make(tmp_path, two_inputs, max_trials=1, online=True)
    (x, y), (x_hyper, y_hyper) = TRAIN, HYPER
    data = {"validation_data": ([x_hyper, x_hyper], y_hyper), "batch_size": 10, "epochs": 2}
    tuner.search([x, x], y, verbose=0, **data)
    assert np.isfinite(scores(tuner)).all()
