"""Sets that `DrMADTuner` takes from the training arrays by itself: `validation_split`, `folds`."""

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, SELECTION, TRAIN, X, Y, make, result, scored, trials

from keras_drmad.data import ArrayBatches
from keras_drmad.tuners.drmad.data import SearchData
from keras_drmad.tuners.drmad.executions import Executions
from keras_drmad.tuners.drmad.folds import Folds
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, LEARN, SCOUT, STAGE
from keras_drmad.tuners.drmad.split import split

NUMBERS = np.arange(10.0, dtype="float32")


# -- a split --------------------------------------------------------------------------------


class Seen(keras.callbacks.Callback):
    """What `fit` takes from the training data for validation."""

    def on_test_begin(self, logs: Any = None) -> None:
        self.samples: list[Any] = []

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        model.test_step = lambda data: self.samples.append(data) or {"loss": 0.0}  # type: ignore[method-assign]


@pytest.mark.parametrize("samples, share", [(10, 0.2), (10, 0.25), (7, 0.3), (160, 0.1)])
def test_a_share_is_split_off_as_keras_does_it(samples: int, share: float) -> None:
    x = np.arange(samples, dtype="float32")[:, None]
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    seen = Seen(model)
    model.fit(x, x, sample_weight=x, validation_split=share, callbacks=[seen], verbose=0)
    theirs = [np.concatenate(part).ravel() for part in zip(*seen.samples, strict=True)]
    train, hyper, selection = split((x, x, x), share, None, None)
    for part, its in zip(hyper, theirs, strict=True):
        np.testing.assert_array_equal(part.ravel(), its)
    assert len(train[0]) + len(hyper[0]) == samples and selection is None


def test_two_shares_are_of_the_hyper_and_of_the_selection_set() -> None:
    parts = split((NUMBERS, NUMBERS + 1), (0.2, 0.1), None, None)
    assert [part[0].tolist() for part in parts] == [[*range(7)], [7, 8], [9]]
    assert [part[1].tolist() for part in parts] == [[*range(1, 8)], [8, 9], [10]]
    assert all(part[2] is None for part in parts)
    nested = split(({"a": NUMBERS}, None, NUMBERS), 0.5, None, "kept")
    assert nested[1][0]["a"].tolist() == nested[1][2].tolist() == [5, 6, 7, 8, 9]
    assert nested[1][1] is None and nested[2] == "kept"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"validation_split": 0.0}, "`validation_split` must be more than 0"),
        ({"validation_split": 1.5}, "at most 1. Received: validation_split=1.5"),
        ({"validation_split": "a"}, "`validation_split` must be a share"),
        ({"validation_split": (0.1,) * 3}, "`validation_split` must be a share"),
        ({"validation_split": True}, "`validation_split` must be"),
        ({"validation_split": 1}, "at least one sample for each set.*160 samples in all"),
        ({"validation_split": (0.5, 0.5)}, "at least one sample for each set"),
        ({"validation_split": (0.2, 0.9)}, "at least one sample for each set"),
        ({"validation_split": 0.1, "validation_data": HYPER}, "where `validation_data` is given"),
        ({"validation_split": (0.1, 0.1), "selection_data": HYPER}, "where `selection_data` is"),
        ({"validation_split": 0.1, "folds": 2}, "`folds` must be left out.*hyper set"),
        ({"folds": 2, "validation_data": HYPER}, "`folds` must be left out.*hyper set"),
        ({"folds": 1}, "`folds` must be an integer, 2 or more. Received: folds=1"),
        ({"folds": 161}, "`folds` must be at most the number of samples, 160"),
        ({}, "`validation_split=0.2` does"),
    ],
)
def test_what_makes_no_sets_is_refused(tmp_path: Any, arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(tmp_path).search(X, Y, verbose=0, **arguments)


@pytest.mark.parametrize("argument", [{"validation_split": 0.2}, {"folds": 2}])
def test_data_in_batches_are_not_split(tmp_path: Any, argument: Any) -> None:
    data = tf.data.Dataset.from_tensor_slices(TRAIN).batch(8)
    with pytest.raises(ValueError, match=r"needs training data in arrays. Received: x=_?Batch"):
        make(tmp_path).search(data, verbose=0, **argument)


@pytest.mark.slow
def test_a_search_on_split_arrays_is_that_on_its_parts(tmp_path: Any) -> None:
    found = []
    for name, data, sets in (
        ("split", (X, Y), {"validation_split": (0.25, 0.25)}),
        ("given", TRAIN, {"validation_data": HYPER, "selection_data": SELECTION}),
    ):
        tuner = make(tmp_path, project_name=name, max_trials=2)
        tuner.search(*data, batch_size=10, epochs=1, verbose=0, **sets)
        found.append([scored(trial) for trial in trials(tuner)])
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"settings: data.hyper: \[40, .* before, \[48"):
        make(tmp_path, project_name="split").search(
            X, Y, batch_size=10, epochs=1, verbose=0, validation_split=(0.3, 0.25)
        )


# -- folds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples, count", [(6, 3), (8, 3), (11, 4), (5, 5)])
def test_each_sample_is_held_out_once_but_what_is_left_over(samples: int, count: int) -> None:
    x = np.arange(samples, dtype="float32")
    folds = Folds(ArrayBatches((x, 2 * x), 4), count)
    held = [folds.held_out(k)[0].tolist() for k in range(count)]
    others = [folds.others(k)[0].tolist() for k in range(count)]
    size = samples // count
    assert sorted(itertools.chain(*held)) == list(range(size * count))
    for own, rest in zip(held, others, strict=True):
        assert len(own) == size and sorted(own + rest) == x.tolist()
    assert folds.held_out(0)[1].tolist() == [2 * v for v in held[0]]


def test_trainings_of_all_folds_are_alike() -> None:
    data = SearchData((X[:59], Y[:59], Y[:59] ** 2), None, None, 10, True, 1, folds=3)
    folds = [data.fold(number) for number in range(4)]
    assert {fold.steps(2) for fold in folds} == {data.steps(2)} == {8}
    assert all(fold.selected is fold.hyper for fold in folds)
    hyper = [fold.hyper.data for fold in folds]
    assert not np.array_equal(hyper[0][0], hyper[1][0])
    np.testing.assert_array_equal(hyper[0][0], hyper[3][0])
    np.testing.assert_array_equal(folds[1].selection[2], Y[1:57:3] ** 2)
    np.testing.assert_array_equal(folds[1].batches().data[2], np.delete(Y[:59], np.s_[1:57:3]) ** 2)
    fixed = SearchData(TRAIN, None, SELECTION, 10, True, 1, folds=2)
    assert fixed.fold(1).selected is fixed.selected and fixed.fold(1).hyper is not fixed.hyper


def test_values_of_every_fold_are_looked_at() -> None:
    bad = X[:60].copy()
    bad[5, 0] = np.nan
    with pytest.raises(ValueError, match="`x` holds 1 values that are NaN"):
        SearchData((bad, Y[:60]), None, None, 10, True, 1, folds=3)


def outcomes_of(tuner: Any, **arguments: Any) -> list[tuple[int, Any]]:
    """`(execution, outcome)` of all trainings of a search."""
    found, train = [], Executions._trained

    def noted(self: Any, execution: int, *more: Any, **others: Any) -> Any:
        outcome = train(self, execution, *more, **others)
        found.append((execution, outcome))
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executions, "_trained", noted)
        tuner.search(*TRAIN, batch_size=10, epochs=2, verbose=0, **arguments)
    return found


def test_a_hypergradient_is_the_mean_over_folds(tmp_path: Any) -> None:
    """Each is that of a search whose training and hyper set are given."""
    tuner = make(tmp_path, max_trials=1)
    found = outcomes_of(tuner, folds=2)
    assert [execution for execution, _ in found] == [0, 1]
    both = [outcome.gradients["learning_rate"] for _, outcome in found]
    assert not np.allclose(*both)
    gradient = result(tuner, "0").gradients["learning_rate"]
    np.testing.assert_array_equal(gradient, np.mean(both, 0))
    losses = [outcome.logs["val_loss"] for _, outcome in found]
    assert trials(tuner)[0].score == pytest.approx(np.mean(losses), rel=1e-6)
    x, y = TRAIN
    given = make(tmp_path, max_trials=1, project_name="given")
    given.search(
        x[1::2], y[1::2], validation_data=(x[::2], y[::2]), batch_size=10, epochs=2, verbose=0
    )
    np.testing.assert_allclose(result(given, "0").gradients["learning_rate"], both[0], rtol=1e-5)
    model = tuner.get_best_models()[0]
    best = int(np.argmin(losses))
    loss, _ = model.evaluate(x[best::2], y[best::2], verbose=0)
    assert loss == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.slow
def test_folds_of_trials_that_scout_and_learn(tmp_path: Any) -> None:
    tuner = make(tmp_path, max_trials=5, scouts=2, online=True, executions_per_trial=2)
    found = outcomes_of(tuner, folds=2)
    stages = [trial.hyperparameters.values[STAGE] for trial in trials(tuner)]
    assert stages == [SCOUT] * 2 + [LEARN] * 2 + [DIFFERENTIATE]
    assert [execution for execution, _ in found] == [0, 1, 2, 3] * 5
    assert np.isfinite([trial.score for trial in trials(tuner)]).all()
    assert tuner.get_best_optimizer().schedule is not None
