"""The best of a search is trained again on fresh seeds, before it is called the best."""

import keras
import numpy as np
import pytest
from drmad_task import make as make_tuner
from drmad_task import search
from oracle_trials import end, make, place, rate

from keras_drmad import plots
from keras_drmad.tuners import luck
from keras_drmad.tuners.drmad.costs import COST
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, RETEST, STAGE, seed_of
from keras_drmad.tuners.drmad.result import TrialResult
from keras_drmad.tuners.storage import files


def stage(trial):
    return trial.hyperparameters.values[STAGE]


def go(oracle, scores):
    """Ends a trial with each score; their stages and places."""
    found = []
    for score in scores:
        trial = oracle.create_trial("w")
        found.append((stage(trial), *place(trial)))
        end(oracle, trial, score)
    return found


def test_after_each_meta_step_the_best_so_far_is_trained_again(tmp_path):
    oracle = make(tmp_path, retests=True, return_after=None)
    found = go(oracle, [1.0, 1.0, 0.1, 0.1, 0.9, 0.1])
    assert found == [
        (DIFFERENTIATE, 0, 0, 0),
        (RETEST, 0, 0, 1),  # the only one
        (DIFFERENTIATE, 0, 1, 0),
        (RETEST, 0, 1, 2),
        (DIFFERENTIATE, 0, 2, 0),
        (RETEST, 0, 1, 3),  # what came later was worse
    ]


def test_a_retest_has_the_values_of_its_meta_iteration_and_a_seed_of_its_own(tmp_path):
    oracle = make(tmp_path, retests=True)
    go(oracle, [1.0, 1.0, 0.1, 0.1, 0.9])
    rates = [rate(oracle, t) for t in oracle.trials.values() if place(t)[1] == 1]
    again = oracle.create_trial("w")
    assert place(again)[1] == 1 and rate(oracle, again) == rates[0] != 0.0
    seeds = [seed_of(t.hyperparameters.values, 0, True) for t in oracle.trials.values()]
    assert len(set(seeds)) == len(seeds)


def test_one_lucky_score_is_not_the_best(tmp_path):
    oracle = make(tmp_path, retests=True, return_after=None)
    #            0, again;  1 lucky, again; 2, again
    go(oracle, [0.5, 0.5, 0.1, 1.5, 0.4, 0.4])
    assert oracle.get_best_trials(1)[0].score == 0.1
    assert place(oracle.trials[oracle.favourite()])[1] == 2


def test_what_comes_back_as_the_best_is_still_there(tmp_path):
    """Retests bring the first one back, long after it was overtaken by several."""
    oracle = make(tmp_path, retests=True, return_after=None)
    scores = iter([0.30, 0.31, 0.10, 0.9, 0.2, 0.9, 0.11, 0.9, 0.12, 0.9, 0.13, 0.9])
    for score in scores:
        end(oracle, oracle.create_trial("w"), score)
        if favourite := oracle.favourite():
            run, iteration, _ = place(oracle.trials[favourite])
            assert TrialResult.read(oracle.project.result(favourite))
            assert iteration == 0 or files.read_arrays(oracle.project.state(run, iteration))
    assert place(oracle.trials[oracle.favourite()])[1] == 0


def test_a_lost_training_is_the_worst_there_is(tmp_path):
    oracle = make(tmp_path, retests=True, return_after=None)
    go(oracle, [float("inf"), 1.0, 0.7, float("inf"), 0.5])
    assert place(oracle.create_trial("w"))[1] == 2


def test_there_are_none_where_trials_are_what_is_counted(tmp_path):
    for number, arguments in enumerate(
        ({}, {"max_trials": None, "budget": 8, "unit": "trials"}, {"retests": False})
    ):
        oracle = make(tmp_path / str(number), **arguments)
        assert {found[0] for found in go(oracle, [1.0] * 4)} == {DIFFERENTIATE}
        assert oracle.favourite() is None


def test_what_is_left_of_a_budget_goes_to_retests(tmp_path):
    oracle = make(tmp_path, max_trials=None, budget=10)
    stages = []
    while (trial := oracle.create_trial("w")).status == "RUNNING":
        stages.append(stage(trial))
        cost = 3.0 if stages[-1] == DIFFERENTIATE else 1.0
        end(oracle, trial, 1.0, **{COST + "trainings": cost})
    assert stages == [DIFFERENTIATE, RETEST, DIFFERENTIATE, RETEST, RETEST, RETEST]


def test_a_search_goes_on_with_the_same_retests(tmp_path):
    scores = [0.8, 0.9, 0.3, 0.7, 0.5, 0.2, 0.6, 0.4]
    whole = go(make(tmp_path / "whole", retests=True), scores)
    oracle, found = make(tmp_path / "broken", retests=True), []
    for score in scores:
        found += go(oracle, [score])
        oracle = make(tmp_path / "broken", retests=True)
        oracle.reload()
    assert found == whole


def test_the_best_optimizer_is_that_of_the_best_mean(tmp_path):
    tuner = make_tuner(tmp_path, max_trials=6, retests=True)
    search(tuner)
    trials = list(tuner.oracle.trials.values())
    assert [stage(t) for t in trials] == [DIFFERENTIATE, RETEST] * 3
    favourite = tuner.oracle.trials[tuner.oracle.favourite()]
    same = [t for t in trials if place(t)[1] == place(favourite)[1]]
    assert len(same) >= 2 and favourite.score == min(t.score for t in same)
    optimizer = tuner.get_best_optimizer()
    assert isinstance(optimizer, keras.optimizers.Optimizer) and int(optimizer.iterations) == 0
    assert np.isfinite(tuner.score_noise())
    assert tuner.oracle.display.place(trials[1]).startswith("a retest of meta-iteration ")
    assert "training" not in tuner.oracle.display.place(trials[1])
    marks = {line.get_label(): line.get_xdata() for line in plots.search(tuner)[0].get_lines()}
    assert list(marks["refining"]) == [0, 2, 4] and list(marks["retesting"]) == [1, 3, 5]


@pytest.mark.parametrize("resample, expected", [(True, RETEST), (False, DIFFERENTIATE)])
def test_one_draw_of_everything_has_no_retests(tmp_path, resample, expected):
    tuner = make_tuner(tmp_path, max_trials=2, retests=True, resample=resample)
    assert tuner.oracle.retests is resample
    search(tuner)
    assert stage(list(tuner.oracle.trials.values())[1]) == expected


def test_means_are_drawn_to_those_beside_them():
    alone, beside = luck.shrunken([[4.0], [1.0, 3.0]])
    around = (4.0 + 1.0 + 3.0) / 3
    assert alone.mean == pytest.approx((4.0 + 2 * around) / 3)
    assert beside.mean == pytest.approx((4.0 + 2 * around) / 4)
    assert beside.bound < alone.bound
    assert luck.shrunken([]) == []
