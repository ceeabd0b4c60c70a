"""How decisions travel: as metrics to `update_trial`, and as values in its answer.

KerasTuner hands both on between processes; metrics with this prefix are never recorded as a trial's.
"""

import uuid

import numpy as np

from .training.report import DIVERGED, REACHED, STOP, TRUNCATED, Report

PREFIX = "qan/"
KIND, SEED, START = PREFIX + "episode", PREFIX + "seed", PREFIX + "start_rate"
REFERENCE = PREFIX + "reference"
RATE, ACTION, AGAIN = PREFIX + "rate", PREFIX + "action/", PREFIX + "again"

_STATE, _RATE = PREFIX + "state/", PREFIX + "rate/"
_STOP, _BEGINNING = PREFIX + "stop", PREFIX + "beginning"
_TAKEN = PREFIX + "taken/"  # before the names of an answer: what was done
_NUMBERS = ("gap", "step", "cost", "metric", "seconds")
_ENDED = ("", REACHED, DIVERGED, TRUNCATED)
_LIMIT = 3e38  # infinities do not survive every way; this is beyond `UNKNOWN`


class Conversation:
    """The questions of one training, and their answers.

    An oracle that was started again meanwhile does not know them any more: it is told from the
    beginning what it was asked and what was done.
    """

    def __init__(self, oracle, trial_id):
        self._oracle, self._trial_id = oracle, trial_id
        # Tells two trainings of one trial apart; not of the generators, which workers seed alike.
        self._beginning = uuid.uuid4().int % 2**24
        self._told = []

    def ask(self, report, budget):
        """What is to be done after a `Report`."""
        while (decision := self._tell(len(self._told), report, budget)) is None:
            self.tell_again()
        self._told.append((report, budget, decision))
        return decision

    def tell_again(self):
        """All that was said so far; no question is asked."""
        while any(self._tell(number, *said) is None for number, said in enumerate(self._told)):
            pass  # started again once more

    def _tell(self, number, *said):
        return ask(self._oracle, self._trial_id, self._beginning, number, *said)


def is_message(metrics):
    return any(name.startswith(PREFIX) for name in metrics)


def ask(oracle, trial_id, beginning, number, report, budget, taken=None):
    """Asks an oracle for decision `number` of a training, or tells it which one was `taken`.

    Returns:
        What is to be done; None if the oracle must be told of the decisions before.
    """
    observed = _finite(report.observation.ravel().tolist())
    numbers = _finite(float(getattr(report, name)) for name in _NUMBERS)
    metrics = {PREFIX + name: x for name, x in zip(_NUMBERS, numbers, strict=True)}
    metrics |= {PREFIX + "ended": _ENDED.index(report.ended), PREFIX + "number": number}
    metrics |= {PREFIX + "budget": budget, PREFIX + "groups": len(report.rates)}
    metrics |= {_BEGINNING: beginning}
    if taken is not None:
        metrics |= {f"{_TAKEN}{n}": float(x) for n, x in _named(taken).items()}
    metrics |= {f"{_RATE}{i}": float(rate) for i, rate in enumerate(report.rates)}
    metrics |= {f"{_STATE}{i}": x for i, x in enumerate(observed)}
    values = oracle.update_trial(trial_id, metrics, step=int(report.step)).hyperparameters.values
    return None if values.get(AGAIN) else _decision(values)


def read(metrics):
    """`(beginning, number, Report, budget, taken)` of a message."""
    groups = int(metrics[PREFIX + "groups"])
    size = sum(name.startswith(_STATE) for name in metrics)
    observation = np.array([metrics[f"{_STATE}{i}"] for i in range(size)], "float32")
    numbers = {name: metrics[PREFIX + name] for name in _NUMBERS}
    numbers["step"] = int(numbers["step"])
    report = Report(
        observation=observation.reshape(groups, -1),
        rates=np.array([metrics[f"{_RATE}{i}"] for i in range(groups)]),
        ended=_ENDED[int(metrics[PREFIX + "ended"])],
        **numbers,
    )
    number, budget = int(metrics[PREFIX + "number"]), int(metrics[PREFIX + "budget"])
    taken = {n.removeprefix(_TAKEN): x for n, x in metrics.items() if n.startswith(_TAKEN)}
    return int(metrics[_BEGINNING]), number, report, budget, _decision(taken) if taken else None


def answer(decision):
    """The values of an answer; None: tell me from the beginning."""
    return {AGAIN: True} if decision is None else _named(decision)


def _named(decision):
    """`{name: value}` of what is to be done."""
    if isinstance(decision, str):
        return {_STOP: True}
    if isinstance(decision, float):
        return {RATE: decision}
    return {f"{ACTION}{i}": int(choice) for i, choice in enumerate(decision)}


def _decision(values):
    """What `_named` has named."""
    if values.get(_STOP):
        return STOP
    if RATE in values:
        return float(values[RATE])
    return [int(values[f"{ACTION}{i}"]) for i in range(sum(n.startswith(ACTION) for n in values))]


def _finite(values):
    """Python numbers. Of few of them NumPy would take longer: its code has left the caches by now."""
    return [_LIMIT if value != value else min(max(value, -_LIMIT), _LIMIT) for value in values]
