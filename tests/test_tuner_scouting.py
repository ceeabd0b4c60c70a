"""Starts that are scouted: what is asked for, which of them go on, and what ends early."""

import keras
import keras_tuner
import numpy as np
import oracle_trials
import pytest
from drmad_task import HYPER, build, make, result, scouted, search, trials
from processes import all_killed, ended, starter

from keras_drmad import DrMADAdamW, DrMADSGD
from keras_drmad.tuners import DrMADOracle, OptunaOracle
from keras_drmad.tuners.drmad.halving import Halving
from keras_drmad.tuners.drmad.meta_run import MetaRun
from keras_drmad.tuners.drmad.place import DIFFERENTIATE, LEARN, RUN, SCOUT, STAGE
from keras_drmad.tuners.drmad.pruning import CURVE, is_behind
from keras_drmad.tuners.drmad.stages import Stages
from keras_drmad.tuners.drmad.starts import START, ask, displacements, moved

LOWEST = keras_tuner.Objective("val_loss", "min")


# -- halving ----------------------------------------------------------------------------------


def runs(*states):
    """Of `(iteration, best)`."""
    return [MetaRun(i, {}, iteration=at, best=best) for i, (at, best) in enumerate(states)]


def numbers(some):
    return [run.number for run in some]


def test_all_wait_until_every_start_was_tried():
    halving = Halving(4, Stages(1, 2), LOWEST)
    tried = runs((1, 0.3), (1, 0.1), (0, None))
    assert halving.wants_another(tried) and not halving.losers(tried)
    assert [halving.waits(run, tried) for run in tried] == [True, True, False]


def test_a_quarter_of_the_starts_learns_and_one_is_refined():
    halving = Halving(8, Stages(1, 2), LOWEST)
    tried = runs(*((1, best) for best in (0.5, 0.1, 0.7, 0.2, None, np.inf, 0.3, 0.4)))
    losers = halving.losers(tried)
    assert sorted(numbers(losers)) == [0, 2, 4, 5, 6, 7]
    for run in losers:
        run.ended = True
    assert not halving.losers(tried) and not halving.waits(tried[1], tried)
    tried[1].iteration, tried[1].best = 4, 0.09  # two learned, one was differentiated
    assert halving.waits(tried[1], tried) and not halving.waits(tried[3], tried)
    tried[3].iteration, tried[3].best = 4, 0.08
    assert numbers(halving.losers(tried)) == [1]


def test_an_objective_that_grows():
    halving = Halving(4, Stages(1, 0), keras_tuner.Objective("val_accuracy", "max"))
    tried = runs((1, 0.5), (1, 0.9), (1, 0.7), (1, 0.8))
    assert sorted(numbers(halving.losers(tried))) == [0, 2, 3]


def test_without_scouts_nothing_ends_or_waits():
    halving = Halving(0, Stages(0, 2), LOWEST)
    tried = runs((1, 0.5), (3, 0.9))
    assert not halving.wants_another(tried) and not halving.losers(tried)
    assert not any(halving.waits(run, tried) for run in tried)


# -- pruning ----------------------------------------------------------------------------------

WHOLE = [{0: 1.0, 1: 0.5, 2: 0.2}] * 2 + [{0: 3.0, 1: 2.0, 2: 1.0}] * 2


@pytest.mark.parametrize(
    "value, step, others, direction, expected",
    [
        (1.5, 0, WHOLE, "min", False),  # the median is 2
        (2.5, 0, WHOLE, "min", True),
        (2.5, 0, WHOLE[:3], "min", False),  # too few to say
        (np.inf, 0, WHOLE, "min", True),
        (2.5, 0, WHOLE, "max", False),
        (1.5, 0, WHOLE, "max", True),
        (2.5, 0, [*WHOLE, {0: 9.0}, {0: 9.0}], "min", False),  # those that were pruned count, too
    ],
)
def test_behind_is_worse_than_the_median(value, step, others, direction, expected):
    assert is_behind(value, step, others, last=2, direction=direction) is expected


# -- starts -----------------------------------------------------------------------------------


def asked(optimizer, ranges=None):
    oracle = DrMADOracle(max_trials=4)
    ask(oracle, optimizer, ranges or {})
    return {hp.name.removeprefix(START): hp for hp in oracle.hyperparameters.space}


def test_a_start_is_asked_for_what_is_learned():
    found = asked(DrMADSGD(0.02, momentum=0.9, l2=1e-3))
    assert {name: (hp.min_value, hp.max_value) for name, hp in found.items()} == {
        "learning_rate": (pytest.approx(0.02 / 30), pytest.approx(0.6)),
        "momentum": (0.01, 0.5),
        "l2": (pytest.approx(1e-5), pytest.approx(0.1)),
    }
    assert found["learning_rate"].default == pytest.approx(0.02)
    assert found["momentum"].default == pytest.approx(0.1)
    assert set(asked(DrMADAdamW())) == {"learning_rate", "weight_decay"}
    given = asked(DrMADSGD(), {"momentum": (0.5, 0.99), "learning_rate": (1e-3, 0.5)})
    assert given["momentum"].min_value == pytest.approx(0.01)
    assert given["learning_rate"].max_value == 0.5


def test_a_start_moves_all_groups_to_its_values():
    optimizer = DrMADSGD(0.02, momentum=0.9, l2=1e-3)
    variables = [keras.Variable([1.0], name=name) for name in "ab"]
    optimizer.build(variables)
    start = {START + "learning_rate": 0.2, START + "momentum": 0.4, START + "l2": 1e-2}
    values = {kind: d.numpy() for kind, d in optimizer.displacements.items()}
    for kind, value in moved(values, displacements(start | {"units": 3}, optimizer)).items():
        optimizer.displacements[kind].assign(value)
    for group in optimizer.hyperparameters.values():
        assert group["learning_rate"] == pytest.approx(0.2, rel=1e-5)
        assert group["momentum"] == pytest.approx(0.6, rel=1e-5)
        assert group["l2"] == pytest.approx(1e-2, rel=1e-5)


@pytest.mark.parametrize(
    "starts",
    [
        {"rate": (0.1, 1.0)},
        {"learning_rate": 0.1},
        {"learning_rate": (0.1, 0.01)},
        {"learning_rate": (0.0, 0.1)},
        {"learning_rate": ("a", "b")},
        {"momentum": (0.5, 1.0)},
        [("learning_rate", (0.1, 1.0))],
    ],
)
def test_bad_starts_are_named(tmp_path, starts):
    with pytest.raises(ValueError, match="starts"):
        make(tmp_path, starts=starts)


def test_a_range_of_what_is_not_learned_is_refused(tmp_path):
    with pytest.raises(ValueError, match="weight_decay"):
        search(make(tmp_path, scouts=2, starts={"weight_decay": (1e-4, 1e-2)}))


def test_more_scouts_than_trials_are_refused():
    with pytest.raises(ValueError, match="`scouts` must be less than `max_trials`"):
        DrMADOracle(max_trials=4, scouts=4)


# -- the oracle -------------------------------------------------------------------------------


def told(oracle, name, score):
    trial = oracle.create_trial(name)
    if trial.status == "RUNNING":
        oracle_trials.end(oracle, trial, score=score)
    return trial


def test_an_oracle_scouts_learns_and_refines(tmp_path):
    oracle = oracle_trials.make(tmp_path, space=True, scouts=4, online=True, max_trials=10)
    scores = [0.5, 0.2, 0.9, 0.4, 0.3, 0.3, 0.2, 0.1, 0.1, 0.1]
    made = [told(oracle, "w", score) for score in scores]
    places = [(t.hyperparameters.values[RUN], t.hyperparameters.values[STAGE]) for t in made]
    scouted = [(run, SCOUT) for run in range(4)]
    refined = [(1, LEARN)] * 2 + [(1, DIFFERENTIATE)] * 4
    assert places == scouted + refined
    assert made[0].hyperparameters.values["width"] == 1  # the default
    assert isinstance(oracle.outer.oracle, OptunaOracle)
    heard = oracle.outer.oracle.trials.values()
    assert sorted(trial.score for trial in heard) == [0.2, 0.4, 0.9]


def test_a_reloaded_oracle_goes_on(tmp_path):
    whole = oracle_trials.make(tmp_path / "a", space=True, scouts=4, max_trials=8)
    scores = [0.5, 0.2, 0.9, 0.4, 0.3, 0.3, 0.2, 0.1]
    expected = [told(whole, "w", score).hyperparameters.values for score in scores]
    first = oracle_trials.make(tmp_path / "b", space=True, scouts=4, max_trials=8)
    found = [told(first, "w", score).hyperparameters.values for score in scores[:3]]
    second = oracle_trials.make(tmp_path / "b", space=True, scouts=4, max_trials=8)
    second.reload()
    found += [told(second, "w", score).hyperparameters.values for score in scores[3:]]
    assert found == expected


def test_a_start_that_falls_behind_is_told_to_stop(tmp_path):
    oracle = oracle_trials.make(tmp_path, space=True, scouts=6, max_trials=8)
    for score in (1.0, 2.0, 3.0, 4.0):
        trial = oracle.create_trial("w")
        for epoch in range(3):
            answer = oracle.update_trial(trial.trial_id, {CURVE: score}, step=epoch)
            assert answer.status == "RUNNING"
        oracle_trials.end(oracle, trial, score=score)
    trial = oracle.create_trial("w")
    report = {CURVE: 2.4}
    assert oracle.update_trial(trial.trial_id, report, step=0).status == "RUNNING"
    assert oracle.update_trial(trial.trial_id, {CURVE: 2.6}, step=1).status == "STOPPED"
    assert oracle.trials[trial.trial_id].status == "RUNNING"  # until its worker ends it
    assert (
        oracle.update_trial(trial.trial_id, {CURVE: 2.6}, step=2).status == "RUNNING"
    )  # at its end
    oracle_trials.end(oracle, trial, score=2.6)
    assert oracle.get_trial(trial.trial_id).score == 2.6


# -- a search ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_from_a_bad_start(tmp_path):
    def slow(hp):
        return build(hp, learning_rate=1e-4, learn=("learning_rate", "l2"))

    tuner = make(
        tmp_path,
        slow,
        max_trials=9,
        scouts=6,
        starts={"learning_rate": (1e-4, 0.5)},
        keep_checkpoints=9,
    )
    search(tuner, epochs=4)
    done = trials(tuner)
    stages = [trial.hyperparameters.values[STAGE] for trial in done]
    assert stages == [SCOUT] * 6 + [DIFFERENTIATE] * 3
    best = min(done[:6], key=lambda trial: trial.score)
    first = result(tuner, done[6].trial_id)
    np.testing.assert_allclose(
        first.effective["learning_rate"],
        best.hyperparameters.values[START + "learning_rate"],
        rtol=1e-3,
    )
    assert done[6].score < 0.5 * done[0].score
    model = tuner.load_model(best)
    assert model.evaluate(*HYPER, verbose=0)[0] == pytest.approx(best.score, rel=1e-4)


@pytest.mark.slow
def test_chief_and_workers_scout_learn_and_refine(tmp_path):
    start = starter(scouted, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0", "worker1")}) as processes:
        assert [ended(process, 120) for process in processes.values()] == [0, 0, 0]
    tuner = scouted(tmp_path)  # from what is in the folder
    done = trials(tuner)
    stages = [trial.hyperparameters.values[STAGE] for trial in done]
    assert sorted(stages) == sorted([SCOUT] * 4 + [LEARN] * 2 + [DIFFERENTIATE] * 3)
    assert all(trial.status == "COMPLETED" for trial in done)
    assert tuner.get_best_optimizer().schedule is not None
