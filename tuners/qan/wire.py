"""How decisions travel: as metrics to `update_trial`, and as values in its answer.

KerasTuner hands both on between processes; metrics with this prefix are never recorded as a trial's.
"""

import numpy as np

from keras_drmad.tuners.qan.steering import DIVERGED, REACHED, STOP, TRUNCATED, Report

PREFIX = "qan/"
KIND, SEED, START = PREFIX + "episode", PREFIX + "seed", PREFIX + "start_rate"
REFERENCE = PREFIX + "reference"
RATE, ACTION, AGAIN = PREFIX + "rate", PREFIX + "action/", PREFIX + "again"

_STATE, _RATE = PREFIX + "state/", PREFIX + "rate/"
_STOP, _BEGINNING = PREFIX + "stop", PREFIX + "beginning"
_NUMBERS = ("gap", "step", "cost", "metric", "seconds")
_ENDED = ("", REACHED, DIVERGED, TRUNCATED)
_LIMIT = 3e38  # infinities do not survive every way; this is beyond `UNKNOWN`


class MustBeginAgain(Exception):
    """The oracle does not know this episode's beginning any more: it was started again."""


def is_message(metrics):
    return any(name.startswith(PREFIX) for name in metrics)


def ask(oracle, trial_id, beginning, number, report, budget):
    """Sends decision `number` of a trial to an oracle; returns what is to be done.

    `beginning` tells two trainings of one trial apart.

    Raises:
        MustBeginAgain: see above.
    """
    numbers = _finite([getattr(report, name) for name in _NUMBERS])
    metrics = {PREFIX + name: x for name, x in zip(_NUMBERS, numbers, strict=True)}
    metrics |= {PREFIX + "ended": _ENDED.index(report.ended), PREFIX + "number": number}
    metrics |= {PREFIX + "budget": budget, PREFIX + "groups": len(report.rates)}
    metrics |= {_BEGINNING: beginning}
    metrics |= {f"{_RATE}{i}": float(rate) for i, rate in enumerate(report.rates)}
    metrics |= {f"{_STATE}{i}": x for i, x in enumerate(_finite(report.observation.ravel()))}
    values = oracle.update_trial(trial_id, metrics, step=int(report.step)).hyperparameters.values
    if values.get(AGAIN):
        raise MustBeginAgain
    if values.get(_STOP):
        return STOP
    if RATE in values:
        return float(values[RATE])
    return [int(values[f"{ACTION}{i}"]) for i in range(len(report.rates))]


def read(metrics):
    """`(beginning, number, Report, budget)` of a message."""
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
    return int(metrics[_BEGINNING]), number, report, budget


def answer(decision):
    """The values of an answer; None: begin again."""
    if decision is None:
        return {AGAIN: True}
    if isinstance(decision, str):
        return {_STOP: True}
    if isinstance(decision, float):
        return {RATE: decision}
    return {f"{ACTION}{i}": int(choice) for i, choice in enumerate(decision)}


def _finite(values):
    """Python numbers."""
    return np.clip(np.nan_to_num(np.array(values, "float64"), nan=_LIMIT), -_LIMIT, _LIMIT).tolist()
