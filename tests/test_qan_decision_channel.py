"""How decisions travel: by a call in one process, by messages between several."""

import dataclasses

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial
from qan_task import make, search, training

from keras_drmad.tuners import QANOracle
from keras_drmad.tuners.qan.decision_channel import (
    DecisionChannel,
    Question,
    decode,
    encode,
    encode_decision,
    is_message,
)
from keras_drmad.tuners.qan.search.rollout import Rollout
from keras_drmad.tuners.qan.training.report import LARGEST, STOP, Report


def report(**changes):
    numbers = {"gap": 0.5, "step": 6, "cost": 1.0, "ended": "", "metric": 0.9, "seconds": 3.0}
    arrays = {"observation": np.ones((2, 3), "float32"), "rates": np.array([0.1, 0.2])}
    return Report(**(arrays | numbers | changes))


def same(one, other):
    for field in dataclasses.fields(Report):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_in_one_process_no_message_is_made_and_the_agent_sees_what_was_observed(
    tmp_path, monkeypatch
):
    tuner, decide, update = make(tmp_path), Rollout.decide, QANOracle.update_trial
    given, seen = [], []

    def watched_decide(self, report):
        seen.append(report)
        return decide(self, report)

    def watched_update(self, trial_id, metrics, step=0):
        assert not is_message(metrics)
        given.append(trial_id)
        return update(self, trial_id, metrics, step)

    monkeypatch.setattr(Rollout, "decide", watched_decide)
    monkeypatch.setattr(QANOracle, "update_trial", watched_update)
    search(tuner, epochs=1)
    assert len(given) == len(tuner.oracle.trials)  # of their results
    last = tuner._training.callback.reports
    assert len(last) > 1
    for observed, taken_in in zip(last, seen[-len(last) :], strict=True):
        assert taken_in.observation is observed.observation


class Silent:
    """An oracle that knows only messages."""

    def __init__(self):
        self.heard = []

    def update_trial(self, trial_id, metrics, step=0):
        self.heard.append((trial_id, decode(metrics), step))
        trial = Trial(keras_tuner.HyperParameters(), trial_id)
        trial.hyperparameters.values = encode_decision([1, 2])
        return trial


def test_a_worker_sends_messages(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    oracle = Silent()
    channel = DecisionChannel(oracle, "07", 16)
    assert channel.ask(None) is None and not oracle.heard
    assert channel.ask(report()) == [1, 2]
    ((trial_id, question, step),) = oracle.heard
    assert (trial_id, step, question.number, question.budget, question.taken) == (
        "07",
        6,
        0,
        16,
        None,
    )
    same(question.report, report())


@pytest.mark.parametrize("taken", [None, STOP, 0.25, [3, 0]])
def test_messages_hold_all_of_a_question(taken):
    question = Question(12345, 4, report(ended="diverged"), 640, taken)
    found = decode(encode(question))
    assert found._replace(report=None) == question._replace(report=None)
    same(found.report, question.report)
    assert found.report.observation.dtype == "float32"


def test_reports_of_what_is_no_number_are_finite():
    known = report()
    assert known.finite() is known
    wild = report(
        observation=np.array([[np.nan, np.inf, -np.inf]], "float32"),
        gap=np.nan,
        cost=np.inf,
        metric=-np.inf,
    ).finite()
    np.testing.assert_array_equal(
        wild.observation, np.array([[LARGEST, LARGEST, -LARGEST]], "float32")
    )
    assert (wild.gap, wild.cost, wild.metric, wild.seconds) == (LARGEST, LARGEST, -LARGEST, 3.0)


def test_what_the_agent_has_seen_stays_as_it_was():
    """A training that is stopped says so in a new report."""
    given = []
    reports, _ = training().run(0, lambda r: given.append(r) or (STOP if r.step >= 6 else 0.01))
    assert (given[-1].ended, reports[-1].ended) == ("", "truncated")
