"""`budget=` of `DrMADTuner`: what trials cost, when a search ends, and what is said of it."""

import keras
import numpy as np
import oracle_trials
import pytest
from drmad_task import make, search, trials

from keras_drmad.tuners import DrMADOracle
from keras_drmad.tuners.drmad.costs import COST, Laps, cost
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, LEARN, SCOUT, STAGE
from keras_drmad.tuners.drmad.pruning import CURVE, is_pruned
from keras_drmad.tuners.storage import files


def oracle(folder, **arguments):
    defaults = {"max_trials": None, "budget": 8, "retests": False}
    return oracle_trials.make(folder, **defaults | arguments)


def end(oracle, trial, spent, unit="trainings", **more):
    oracle_trials.end(oracle, trial, **{COST + unit: spent}, **more)


def spend(oracle, costs, unit="trainings"):
    """Ends trials until there is no other; what they have cost."""
    found = []
    for each in costs:
        trial = oracle.create_trial("w")
        if trial.status != "RUNNING":
            break
        end(oracle, trial, each, unit)
        found.append(each)
    return found


# -- when it ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget, unit, costs, count",
    [
        (8, "trainings", [2.5] * 9, 3),  # a fourth would end at 10
        (8, "trainings", [1.0, 3.0, 3.0, 9.0], 3),  # it is expected to end at 9.3
        (1, "trainings", [3.0] * 2, 1),  # the first may always begin
        (50, "steps", [20.0] * 9, 2),
        (0.5, "seconds", [0.1] * 9, 5),
        (4, "trials", [7.0] * 9, 4),
    ],
)
def test_trials_begin_as_long_as_they_fit(tmp_path, budget, unit, costs, count):
    assert len(spend(oracle(tmp_path, budget=budget, unit=unit), costs, unit)) == count


def test_max_trials_ends_it_too(tmp_path):
    assert len(spend(oracle(tmp_path, budget=8, max_trials=2), [1.0] * 9)) == 2


def test_what_goes_on_counts_at_what_it_is_expected_to_cost(tmp_path):
    made = oracle(tmp_path, budget=6, gradients_per_step=5)
    a, b, c = (made.create_trial(name) for name in "abc")
    assert [a.status, b.status, c.status] == ["RUNNING", "RUNNING", "IDLE"]  # 3 each, at a guess
    end(made, a, 1.0)
    assert made.create_trial("a").status == "RUNNING"


def test_a_stage_is_expected_to_cost_its_mean_or_a_guess(tmp_path):
    made = oracle(tmp_path, budget=40, space=True, scouts=6, online=True)
    stages = (SCOUT, LEARN, DIFFERENTIATE)
    assert [made.ledger.expected(stage) for stage in stages] == [1.0, 3.0, 3.0]
    spend(made, [2.0, 2.0, 2.0, 2.0])  # of two executions each
    assert [made.ledger.expected(stage) for stage in stages] == [2.0, 6.0, 6.0]
    spend(made, [2.0, 2.0, 5.0])
    assert [made.ledger.expected(stage) for stage in stages] == [
        2.0,
        5.0,
        pytest.approx(17 / 9 * 3),
    ]


def test_seconds_are_guessed_by_those_of_other_stages(tmp_path):
    made = oracle(tmp_path, unit="seconds", space=True, scouts=4)
    assert made.ledger.expected(SCOUT) == 0.0  # nothing is known
    spend(made, [0.1, 0.3], "seconds")
    assert made.ledger.expected(SCOUT) == pytest.approx(0.2)
    assert made.ledger.expected(DIFFERENTIATE) == pytest.approx(0.6)


def test_a_failed_trial_costs_a_mean_one_and_a_refused_one_nothing(tmp_path):
    made = oracle(tmp_path)
    spend(made, [2.0])
    failed, refused = made.create_trial("w"), None
    oracle_trials.end(made, failed, status="FAILED")
    assert made.ledger.spent() == 4.0
    refused = made.create_trial("w")
    files.write_json(made.project.refusal(refused.trial_id), "too large")
    oracle_trials.end(made, refused, status="FAILED")
    assert made.ledger.spent() == 4.0


# -- going on ---------------------------------------------------------------------------------


def test_a_search_that_is_over_stays_so_until_its_budget_grows(tmp_path):
    first = oracle(tmp_path, budget=5)
    assert len(spend(first, [2.0] * 9)) == 2 and first.needed == 6.0
    again = oracle(tmp_path, budget=5)
    again.reload()
    state = files.read_json(again.project.oracle)
    assert again.is_over(state) and again.ledger.spent() == 4.0
    assert again.create_trial("w").status == "STOPPED"
    larger = oracle(tmp_path, budget=6)
    assert not larger.is_over(state)
    larger.reload()
    assert len(spend(larger, [2.0] * 9)) == 1
    assert not oracle(tmp_path, max_trials=9, budget=None).is_over(state)


def test_a_search_goes_on_with_what_is_left(tmp_path):
    first = oracle(tmp_path, budget=8)
    spend(first, [2.0] * 2)
    first.create_trial("w")  # and is killed
    again = oracle(tmp_path, budget=8)
    again.reload()
    assert not again.is_over(files.read_json(again.project.oracle))
    assert len(spend(again, [2.0] * 9)) == 2


class Half(keras.callbacks.Callback):
    """Ends a training after half of its epochs."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.stop_training = True


def test_trials_say_what_they_have_cost(tmp_path, monkeypatch):
    arguments = {"max_trials": None, "scouts": 2, "executions_per_trial": 2}
    tuner = search(make(tmp_path, budget=4, **arguments), callbacks=[Half()])
    metrics = [trial.metrics for trial in trials(tuner)]
    assert [each.get_best_value(COST + "trainings") for each in metrics] == [1.0, 1.0]  # two halves
    assert [each.get_best_value(COST + "steps") for each in metrics] == [16.0, 16.0]
    assert all(each.get_best_value(COST + "seconds") > 0 for each in metrics)
    assert tuner._is_over()  # one that is differentiated costs 3 at a guess
    again = make(tmp_path, budget=4, **arguments)
    monkeypatch.setattr(again._preparation, "rehearse", None)  # it would raise
    assert len(trials(search(again, callbacks=[Half()]))) == 2
    *_, last = trials(search(make(tmp_path, budget=40, **arguments | {"max_trials": 3})))
    assert last.hyperparameters.values[STAGE] == DIFFERENTIATE
    assert last.metrics.get_best_value(COST + "trainings") > 2.0  # two whole ones, and back


# -- what it costs ----------------------------------------------------------------------------


def laps(seconds, steps=10):
    found = Laps()
    for each in seconds:
        found.end(steps)
        found._seconds[-1] = each
    return found


def test_the_cost_of_a_training():
    forth = laps([0.5, 0.1, 0.1, 0.1])  # the first one compiles
    assert cost(40, forth, 0.0) == {"trainings": 1.0, "steps": 40.0}
    found = cost(80, forth, laps([0.2, 0.2, 0.2]).seconds())
    assert found["trainings"] == pytest.approx(0.5 * (1 + 0.6 / 0.6))
    assert found["steps"] == pytest.approx(40 * 2)
    assert cost(40, Laps(), 0.0) == {"trainings": 0.0, "steps": 0.0}  # of which no step was taken


def test_what_is_left_out_of_a_lap_does_not_count():
    found = Laps()
    found.begin()
    found.leave_out(5.0)
    assert found.end(1) < -4.0


# -- what is said -----------------------------------------------------------------------------


def test_what_was_spent_is_shown_with_the_time_left(tmp_path, capsys):
    made = oracle(tmp_path, budget=40)
    made.verbose = 1
    spend(made, [12.3])
    shown = capsys.readouterr().out
    assert "Trial 0000 (1): val_loss 1 (the best)" in shown
    assert "; 12.3 of 40 trainings spent, about 0." in shown and "at most" not in shown
    ended = oracle(tmp_path, budget=13)
    ended.reload()
    ended.verbose = 1
    assert ended.create_trial("w").status == "STOPPED"
    assert ended.display.costs() == [
        "12.3 of 13 trainings spent, by stage:",
        "  refining: 12.3 trainings (1 trial)",
        "Another trial takes a budget of 25 trainings.",
    ]


def test_the_first_limit_says_how_long_it_takes(tmp_path):
    made = oracle(tmp_path, budget=40, max_trials=3)
    spend(made, [4.0])
    assert made.limits() == [(1, 2), (4.0, 36.0)]
    made.reload()
    spend(made, [4.0])
    assert made.limits() == [(1, 1), (4.0, 32.0)]


def test_what_is_pruned_is_shown_so(tmp_path):
    made = oracle(tmp_path, budget=40, space=True, scouts=6)
    for score in (1.0, 2.0, 3.0, 4.0):
        trial = made.create_trial("w")
        for epoch in range(3):
            made.update_trial(trial.trial_id, {CURVE: score}, step=epoch)
        end(made, trial, 1.0, score=score)
    trial = made.create_trial("w")
    made.update_trial(trial.trial_id, {CURVE: 2.0}, step=0)
    assert made.update_trial(trial.trial_id, {CURVE: 2.6}, step=1).status == "STOPPED"
    end(made, trial, 2 / 3, score=2.6)
    made.reload()
    ended = made.get_trial(trial.trial_id)
    assert ended.status == "COMPLETED" and is_pruned(ended)
    assert (
        "PRUNED after epoch 2: val_loss 2.6 (best: 1, trial 0000)" in made.display.summary(ended)[0]
    )
    assert made.display.costs()[1] == "  scouting: 4.67 trainings (5 trials, 1 PRUNED)"


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"budget": 0}, "`budget` must be a finite number, 1 or more. Received: budget=0"),
        ({"budget": -3}, "`budget` must be a finite number, 1 or more"),
        ({"budget": np.nan}, "budget=nan"),
        ({"budget": "40"}, "`budget` must be a number. Received: budget='40'"),
        ({"budget": [20, 40]}, "`budget` must be one number"),
        ({"budget": 0, "unit": "seconds"}, "`budget` must be more than 0"),
        ({"budget": 4.5, "unit": "trials"}, "`budget` must be a positive integer"),
        ({"budget": 4, "unit": "training"}, "Did you mean 'trainings'"),
        ({"unit": "seconds"}, "`unit` is that of a `budget`"),
        ({"budget": 4, "unit": "trials", "max_trials": 4}, "leave one of them out"),
        ({"budget": 4, "scouts": 4}, "`scouts` must be less than `budget`"),
        ({"budget": 4, "unit": "trials", "scouts": 4}, "`scouts` must be less than `budget`"),
    ],
)
def test_what_is_no_budget_is_refused(arguments, words):
    with pytest.raises(ValueError) as error:
        DrMADOracle(**arguments)
    assert words in str(error.value)


def test_without_a_budget_there_are_ten_trials():
    assert DrMADOracle().max_trials == 10 and DrMADOracle(budget=3).max_trials is None
    assert "budget" not in DrMADOracle(budget=3).settings()
