"""Pictures of a search, of episodes that are made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from qan_task import add_episodes, made_up, make, put

from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan import plots
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE, TEST, TRAIN
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.storage import files

CONSTANT, BETTER = (Schedule("constant", peak, 1.0) for peak in (0.1, 0.3))


def lines(axes):
    """`{label: rates}` of the legend, and the rates of all lines."""
    found = {line.get_label(): line.get_ydata()[0] for line in axes.get_lines()}
    named = {name: rate for name, rate in found.items() if not name.startswith("_")}
    return named, [line.get_ydata()[0] for line in axes.get_lines()]


def test_learning_rates_before_the_contest(tmp_path):
    tuner = make(tmp_path, max_trials=40)
    put(tuner, SCHEDULE, 9.0, rate=0.1, schedule=CONSTANT)
    assert lines(plots.learning_rates(tuner))[0] == {"best schedule searched": 0.1}
    put(tuner, SCHEDULE, 5.0, rate=0.3, schedule=BETTER)
    for rate, cost, snapshot in ((0.01, 30.0, 2), (0.02, 4.0, 3), (0.03, 4.0, 3), (0.04, 4.0, 3)):
        put(tuner, TEST, cost, rate=rate, snapshot=snapshot)
    named, rates = lines(plots.learning_rates(tuner, episodes=2))
    assert named == {"best schedule searched": 0.3, "policy, tests of snapshot 3": 0.03}
    assert rates == [0.3, 0.03, 0.04]  # the latest


def test_learning_rates_are_those_of_the_contest_once_there_is_one(tmp_path):
    tuner = make(tmp_path, max_trials=40)
    put(tuner, SCHEDULE, 5.0, schedule=BETTER)
    put(tuner, TEST, 4.0, snapshot=1)
    put(tuner, CONTEST, 4.0, rate=0.05, snapshot=1)
    # The schedule's turn has not come yet.
    named, _ = lines(plots.learning_rates(tuner))
    assert named == {"best schedule searched": 0.1, "policy, contest": 0.05}
    put(tuner, CONTEST, 5.0, rate=0.3, schedule=BETTER)
    named, rates = lines(plots.learning_rates(tuner))
    assert named == {"best schedule, contest": 0.3, "policy, contest": 0.05}
    assert rates == [0.3, 0.05]


def test_actions_have_a_panel_for_each_kind(tmp_path):
    actions = Actions((0.25, 1), momentum=(0.5, 1), sample_selection=("uniform", "hardest"))
    tuner = make(tmp_path, max_trials=40, actions=actions)
    chosen = [(0.25, 1.0, "uniform"), (1.0, 0.5, "hardest")]
    taken = [[actions.all.index(action)] for action in chosen]
    put(tuner, TRAIN, 5.0, actions=[*taken, [0]])
    panels = plots.actions(tuner)
    assert [panel.get_title() for panel in panels] == ["learning rate", "momentum", "samples"]
    images = [panel.get_images()[0] for panel in panels]
    assert [image.get_array().tolist() for image in images] == [[[-2, 0]], [[0, -1]], [[0, 1]]]
    assert [image.get_clim() for image in images[:2]] == [(-2, 2), (-1, 1)]


def test_actions_of_layers_are_their_mean(tmp_path):
    actions = Actions((0.25, 0.5, 1), momentum=(0.5, 1), per="layer")
    tuner = make(tmp_path, max_trials=40, actions=actions)
    two = [actions.all.index(action) for action in ((0.25, 1.0, "uniform"), (1.0, 0.5, "uniform"))]
    put(tuner, TRAIN, 5.0, actions=[two, [0, 0]])
    rate, momentum = plots.actions(tuner)
    assert rate.get_images()[0].get_array().tolist() == [[-1]]
    assert momentum.get_images()[0].get_array().tolist() == [[-0.5]]


def test_actions_of_one_kind_have_one_panel(tmp_path):
    tuner = make(
        tmp_path, max_trials=40, actions=Actions((1,), sample_selection=("uniform", "hardest"))
    )
    put(tuner, TEST, 5.0, snapshot=0, actions=((1,), (0,)))
    (axes,) = plots.actions(tuner)
    assert axes.get_images()[0].get_array().tolist() == [[1]]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"uniform", "hardest"}


def test_actions_are_drawn_on_given_axes(tmp_path):
    tuner = make(
        tmp_path, max_trials=40, actions=Actions((0.5, 1), sample_selection=("uniform", "hardest"))
    )
    put(tuner, TEST, 5.0, snapshot=0)
    _, axes = pyplot.subplots(1, 2)
    assert plots.actions(tuner, axes) == list(axes)
    assert axes[0].get_images()[0].get_array().tolist() == [[-1]]
    with pytest.raises(ValueError, match="must be 2 axes, one for each panel"):
        plots.actions(tuner, axes[0])


@pytest.fixture
def drawn(tmp_path):
    oracle = made_up(tmp_path)
    return SimpleNamespace(oracle=oracle, project=oracle.project)


def test_the_map_of_actions_shows_what_they_multiply_by(drawn):
    add_episodes(drawn.oracle, TRAIN, 16.0)
    add_episodes(drawn.oracle, TEST, 9.0, snapshot=1)
    for trial, actions in (("00", [0, 4, 2, 1]), ("01", [4, 1, 0])):  # nothing comes of the last
        drawn.oracle.start_order.append(trial)
        taken = {"actions": np.array(actions)[:, None]}
        files.write_arrays(drawn.project.history(trial), decisions=taken)
    image = plots.actions(drawn)[0].get_images()[0].get_array()
    np.testing.assert_allclose(image[0], [-1, 1, 0])
    np.testing.assert_allclose(image[1].compressed(), [1, np.log2(0.9)])


def test_the_best_constant_rate_has_a_line_of_its_own(drawn):
    add_episodes(drawn.oracle, SCHEDULE, 5.0, schedule=Schedule("cosine", 0.1, 16))
    add_episodes(drawn.oracle, SCHEDULE, 11.0, schedule=CONSTANT)
    lines = {line.get_label(): line for line in plots.learning_curve(drawn).get_lines()}
    for name, cost in (("best schedule", 5.0), ("constant", 11.0)):
        line = next(line for label, line in lines.items() if name in label)
        assert set(line.get_ydata()) == {cost}
