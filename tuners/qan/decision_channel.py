"""How a training asks its oracle what to do: by a call, or by messages to the chief's process.

A message is metrics to `update_trial`, and values in its answer: KerasTuner hands both on between
processes. Metrics with this prefix are never recorded as a trial's.
"""

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.arguments import LARGEST

from ..distributed.role import role
from .training.report import DIVERGED, REACHED, STOP, TRUNCATED, Decision, Report

PREFIX = "qan/"
KIND, SEED, START = PREFIX + "episode", PREFIX + "seed", PREFIX + "start_rate"
REFERENCE = PREFIX + "reference"
RATE, ACTION, AGAIN = PREFIX + "rate", PREFIX + "action/", PREFIX + "again"

_STATE, _RATE = PREFIX + "state/", PREFIX + "rate/"
_STOP, _TRAINING = PREFIX + "stop", PREFIX + "training"
_TAKEN = PREFIX + "taken/"  # before the names of an answer: what was done
_NUMBERS = ("gap", "step", "cost", "metric", "seconds")
_ENDED = ("", REACHED, DIVERGED, TRUNCATED)


class Question(NamedTuple):
    """What an oracle is asked at a decision.

    Attributes:
        training: tells two trainings of one trial apart.
        number: of the decision, from 0.
        report: the `Report`, of finite numbers.
        budget: steps of the whole training.
        taken: what was done then, of a decision that the oracle is told again; None asks for one.
    """

    training: int
    number: int
    report: Report
    budget: int
    taken: Decision = None


class Oracle(Protocol):
    """What is needed of a `QANOracle`; in a worker, KerasTuner's client of it can send messages only."""

    def decide(self, trial_id: str, question: Question) -> Decision: ...
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial: ...


class DecisionChannel:
    """Asks for the decisions of one training.

    A chief that was started again meanwhile does not know them any more: it is told from the beginning
    what it was asked and what was done.

    Args:
        oracle: the `QANOracle`; in a worker, KerasTuner's client of it.
        trial_id: of the training.
        budget: its steps.
    """

    def __init__(self, oracle: Oracle, trial_id: str, budget: int) -> None:
        self._oracle, self._trial_id, self._budget = oracle, trial_id, budget
        self._is_remote = role() == "worker"
        # Not of the generators, which workers seed alike.
        self._training = uuid.uuid4().int % 2**24
        self._told: list[tuple[Report, Decision]] = []

    def ask(self, report: Report | None) -> Decision:
        """What is to be done after a `Report`; nothing before there is one."""
        if report is None:
            return None
        report = report.finite()
        while (decision := self._ask(len(self._told), report)) is None:
            self.tell_again()
        self._told.append((report, decision))
        return decision

    def tell_again(self) -> None:
        """All that was said so far; no question is asked."""
        while any(self._ask(number, *said) is None for number, said in enumerate(self._told)):
            pass  # started again once more

    def _ask(self, number: int, report: Report, taken: Decision = None) -> Decision:
        question = Question(self._training, number, report, self._budget, taken)
        if self._is_remote:
            return send(self._oracle, self._trial_id, question)
        return self._oracle.decide(self._trial_id, question)


def send(oracle: Oracle, trial_id: str, question: Question) -> Decision:
    """Asks an oracle of another process.

    Returns:
        What is to be done; None if the oracle must be told of the decisions before.
    """
    trial = oracle.update_trial(trial_id, encode(question), step=question.report.step)
    values = trial.hyperparameters.values
    return None if values.get(AGAIN) else _decision(values)


def is_message(metrics: Mapping[str, Any]) -> bool:
    """Whether metrics are a `Question`."""
    return any(name.startswith(PREFIX) for name in metrics)


def encode(question: Question) -> dict[str, float]:
    """The metrics of a message."""
    report = question.report
    metrics = {PREFIX + name: float(getattr(report, name)) for name in _NUMBERS}
    metrics |= {PREFIX + "ended": _ENDED.index(report.ended), PREFIX + "number": question.number}
    metrics |= {PREFIX + "budget": question.budget, PREFIX + "groups": len(report.rates)}
    metrics |= {_TRAINING: question.training}
    if question.taken is not None:
        metrics |= {f"{_TAKEN}{n}": float(x) for n, x in encode_decision(question.taken).items()}
    metrics |= {f"{_RATE}{i}": float(rate) for i, rate in enumerate(report.rates)}
    observed = report.observation.ravel().tolist()
    return metrics | {f"{_STATE}{i}": value for i, value in enumerate(observed)}


def decode(metrics: Mapping[str, float]) -> Question:
    """The `Question` of a message.

    Raises:
        ArithmeticError, LookupError, ValueError: The metrics are none.
    """
    if not all(abs(value) <= LARGEST for value in metrics.values()):
        raise ValueError("something in it is not finite in float32")
    groups = int(metrics[PREFIX + "groups"])
    if metrics[PREFIX + "budget"] < 1:
        raise ValueError("its budget is less than a step")
    size = sum(name.startswith(_STATE) for name in metrics)
    observation = np.array([metrics[f"{_STATE}{i}"] for i in range(size)], "float32")
    gap, step, cost, metric, seconds = (metrics[PREFIX + name] for name in _NUMBERS)
    report = Report(
        observation=observation.reshape(groups, -1),
        gap=gap,
        step=int(step),
        cost=cost,
        ended=_ENDED[int(metrics[PREFIX + "ended"])],
        metric=metric,
        seconds=seconds,
        rates=np.array([metrics[f"{_RATE}{i}"] for i in range(groups)]),
    )
    taken = {n.removeprefix(_TAKEN): x for n, x in metrics.items() if n.startswith(_TAKEN)}
    return Question(
        training=int(metrics[_TRAINING]),
        number=int(metrics[PREFIX + "number"]),
        report=report,
        budget=int(metrics[PREFIX + "budget"]),
        taken=_decision(taken) if taken else None,
    )


def encode_decision(decision: Decision) -> dict[str, Any]:
    """The values of an answer; of None: tell me from the beginning."""
    if decision is None:
        return {AGAIN: True}
    if isinstance(decision, str):
        return {_STOP: True}
    if isinstance(decision, float):
        return {RATE: decision}
    return {f"{ACTION}{i}": int(choice) for i, choice in enumerate(decision)}


def _decision(values: Mapping[str, Any]) -> Decision:
    """What `encode_decision` has encoded."""
    if values.get(_STOP):
        return STOP
    if RATE in values:
        return float(values[RATE])
    return [int(values[f"{ACTION}{i}"]) for i in range(sum(n.startswith(ACTION) for n in values))]
