"""What is seen of a `DrMADTuner`'s search: printed, in TensorBoard, and as a picture."""

import os
import pathlib
import re

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import SELECTION, L, build, make, result, search, trials

from keras_drmad import DrMADSGD, plots
from keras_drmad.tuners.drmad.place import ITERATION
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A search with a selection set and TensorBoard."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("watched")
    board = keras.callbacks.TensorBoard(folder / "board")
    tuner = make(folder, max_trials=4, keep_checkpoints=4)
    return search(tuner, callbacks=[board], selection_data=SELECTION)


@pytest.fixture
def board(watched):
    return pathlib.Path(watched.project.folder).parent / "board"


# -- printed --------------------------------------------------------------------------------


def test_summaries_are_short(tmp_path, capsys):
    def per_unit(hp):
        return build(hp, per="unit")

    tuner = search(make(tmp_path, per_unit, max_trials=1))
    capsys.readouterr()
    tuner.results_summary()
    shown = capsys.readouterr().out
    assert "learned/l2: 0.001 (all 9 values)" in shown
    assert len(shown.splitlines()) < 20
    assert os.path.getsize(tmp_path / "p" / "trial_0" / "trial.json") < 2000


def test_a_search_says_what_it_does_and_finds(tmp_path, capsys, caplog):
    def widths(hp):
        model = keras.Sequential([L.Input((5,)), L.Dense(hp.Choice("w", [2, 3])), L.Dense(1)])
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        return model

    tuner = make(tmp_path, widths, max_trials=3, meta_iterations=2)
    tuner.search_space_summary()
    search(tuner, verbose=1)
    shown = capsys.readouterr().out
    assert "w (Choice)" in shown
    first, second, third = (tuner.oracle.trials[name] for name in "012")
    width = first.hyperparameters.get("w")
    for line in (
        "Compiling a training of 16 steps, and the way back",
        f"Trial 0 (1 of 3): meta-iteration 0 of configuration 0 (w={width})",
        f"Trial 1 (2 of 3): meta-iteration 1 of configuration 0 (w={width})",
        "Walking back over 16 steps",
        f"Trial 0 (1 of 3): val_loss {first.score:.4g} (the best)",
        f"; hyper_loss {first.score:.4g}; growth ",
        "at most",
        "learned/learning_rate: 0.02 (all 2 values)",
        "learned/momentum: 0.9 (",
    ):
        assert line in shown, line
    assert "drmad/" not in shown and "seed" not in shown
    assert not re.search(r"\d\.\d{6}", shown)
    assert second.metrics.get_best_value("growth") >= 1 and third.score
    assert "retracing" not in caplog.text


def test_a_failed_trial_says_why(tmp_path, capsys):
    oracle = make(tmp_path).oracle
    oracle.verbose = 1
    trial = oracle.create_trial("a")
    trial.status, trial.message = "FAILED", "Traceback …\nValueError: No such layer.\n"
    oracle.end_trial(trial)
    assert "Trial 0 (1 of 4): failed: ValueError: No such layer.; " in capsys.readouterr().out


def test_a_summary_says_how_much_of_a_score_is_luck(tmp_path, capsys):
    tuner = search(make(tmp_path, max_trials=4, gradients_per_step=2))
    capsys.readouterr()
    tuner.results_summary(1)
    a, b, c, d = (trial.score for trial in trials(tuner))
    spread = np.sqrt(((a - b) ** 2 + (c - d) ** 2) / 4)
    assert f"differ by about {float(f'{spread:.2g}'):g} (standard" in capsys.readouterr().out


# -- in TensorBoard -------------------------------------------------------------------------


def test_hparams_show_what_is_learned(board):
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorflow.python.summary.summary_iterator import summary_iterator

    for number in range(2):
        folder = board / str(number) / "execution0"
        sessions = [
            plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
            for file in folder.glob("events*")
            for event in summary_iterator(str(file))
            for value in event.summary.value
            if value.tag == "_hparams_/session_start_info"
        ]
        shown = sessions[0].session_start_info.hparams
        assert shown[ITERATION].number_value == number
        rate = shown["learned/learning_rate"].number_value
        assert (rate == pytest.approx(0.02)) is (number == 0)
        assert shown["start/learning_rate"].number_value == pytest.approx(0.02)  # and of each trial


def test_tensorboard_gets_what_each_group_has_learned(watched, board):
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in (board / "run_000").glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                curves.setdefault(value.tag, []).append((event.step, number))
    names = {f"{group}/{kind}" for group in "ab" for kind in ("learning_rate", "momentum", "l2")}
    assert names | {"hyper_loss", "growth", "val_loss"} <= set(curves)
    for name in names:
        saved = files.read_json(watched.project.learned("1"))[name]
        (_, start), (_, moved), *_ = sorted(curves[name])
        assert [step for step, _ in sorted(curves[name])] == [0, 1, 2, 3] and start != moved
        assert moved == pytest.approx(saved, rel=1e-6)


# -- as a picture ---------------------------------------------------------------------------


def test_a_picture_shows_losses_and_learned_values(watched):
    losses, *kinds = plots.search(watched)
    drawn = {line.get_label(): line.get_data() for line in losses.get_lines()}
    done = trials(watched)
    np.testing.assert_array_equal(drawn["val_loss"], [range(4), [t.score for t in done]])
    best = np.minimum.accumulate([t.score for t in done])
    np.testing.assert_array_equal(drawn["best so far"][1], best)
    hyper = [t.metrics.get_best_value("hyper_loss") for t in done]
    np.testing.assert_array_equal(drawn["hyper loss"][1], hyper)
    assert [panel.get_ylabel() for panel in kinds] == ["learning rate", "momentum", "l2"]
    for panel in kinds:
        assert panel.get_xlabel() == "meta-iteration"
        lines = {line.get_label(): line.get_data() for line in panel.get_lines()}
        assert set(lines) == {"a", "b"}
        assert all(list(x) == list(range(4)) for x, _ in lines.values())
    best_trial = watched.oracle.get_best_trials()[0]
    iteration = best_trial.hyperparameters.values[ITERATION]
    rates = [line.get_ydata()[iteration] for line in kinds[0].get_lines()]
    effective = result(watched, best_trial.trial_id).effective["learning_rate"]
    np.testing.assert_allclose(rates, effective, rtol=1e-6)


def test_a_hyper_loss_has_an_axis_of_its_own_beside_another_quantity(watched, monkeypatch):
    objective = keras_tuner.Objective("val_mae", "min")
    monkeypatch.setattr(watched.oracle, "objective", objective)
    losses = plots.search(watched)[0]
    assert "hyper loss" not in [line.get_label() for line in losses.get_lines()]
    (other,) = [ax for ax in losses.figure.axes if ax.get_ylabel() == "hyper loss (×)"]
    assert len(other.get_lines()[0].get_ydata()) == 4


def test_a_picture_needs_a_trial(tmp_path):
    with pytest.raises(ValueError, match="no trial that has ended: call `search`"):
        plots.search(make(tmp_path))


def test_a_summary_needs_a_trial_and_a_number(tmp_path, capsys):
    tuner = make(tmp_path)
    tuner.results_summary()
    assert "No trial has ended yet: call `search`." in capsys.readouterr().out
    with pytest.raises(ValueError, match="`num_trials` must be"):
        tuner.results_summary("all")
