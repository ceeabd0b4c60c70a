"""A study of Optuna's that follows the trials of an oracle."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import keras_tuner
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from .optuna_parameters import Value, parameter, suggest

State = dict[str, Any]  # JSON

# The same name again and again: Hyperband draws its brackets from it.
NAME = "keras_tuner"
# CMA-ES keeps a pickle there, and files of a search are never unpickled: it starts anew.
PICKLED = "cma:"
# Samplers that users tell values.
TOLD = (optuna.samplers.GridSampler, optuna.samplers.PartialFixedSampler)
DIRECTIONS = {
    "min": optuna.study.StudyDirection.MINIMIZE,
    "max": optuna.study.StudyDirection.MAXIMIZE,
}


class Study(optuna.Study):
    """A study without `optimize`: where a sampler stops that, `is_exhausted` says so."""

    is_exhausted = False

    def stop(self) -> None:
        self.is_exhausted = True


class Search:
    """What an oracle asks and tells; trials have the oracle's ids.

    Args:
        direction: "min" or "max".
        sampler, pruner: Of Optuna. They are copied: what they remember is in the study, so that a
            reloaded one goes on in the same way.
        seed: A whole number. With the number of a trial, it says what the sampler draws for it.
    """

    def __init__(
        self,
        direction: str,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
        seed: int,
    ):
        self.pruned: set[str] = set()  # those that were told to stop
        self._seed = seed
        self._sampler = sampler
        self._plain = isinstance(sampler, TOLD)
        self._numbers: dict[str, int] = {}  # by id, of all trials
        self._running: set[str] = set()
        self._storage = optuna.storages.InMemoryStorage()
        with _quiet():
            self._id = self._storage.create_new_study([DIRECTIONS[direction]], NAME)
        self.study = Study(NAME, self._storage, copy.deepcopy(sampler), copy.deepcopy(pruner))

    # -- asking and telling --------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        """Ids of trials that have been asked for and not been told."""
        return sorted(self._running)

    def ask(self, trial_id: str, space: keras_tuner.HyperParameters) -> dict[str, Value] | None:
        """Values of the active hyperparameters for a new trial; None if all have been tried."""
        if self.study.is_exhausted:
            return None
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = copy.deepcopy(self._sampler)
        _reseed(self.study.sampler, self._seed, number)
        try:
            values = suggest(self.study.ask(), space, self._plain)
        except Exception:
            for trial in self.study.get_trials(deepcopy=False)[number:]:
                self._storage.set_trial_state_values(self._trial(trial.number), TrialState.FAIL)
            raise
        self._numbers[trial_id] = number
        self._running.add(trial_id)
        return values

    def report(self, trial_id: str, step: int, value: float) -> bool:
        """Whether a trial is to stop, after a value of its objective at a step.

        Never at the first one: a tuner that reports once reports the result.
        """
        trial = self._trial(self._numbers[trial_id])
        self._storage.set_trial_intermediate_value(trial, step, value)
        known = self._storage.get_trial(trial)
        stops = len(known.intermediate_values) > 1 and self.study.pruner.prune(self.study, known)
        (self.pruned.add if stops else self.pruned.discard)(trial_id)
        return stops

    def tell(self, trial_id: str, space: keras_tuner.HyperParameters, score: float | None) -> None:
        """The end of a trial.

        Args:
            trial_id: Of a running one.
            space: All hyperparameters that are tuned, with the trial's values: some may have been
                found while it ran.
            score: None if it failed. Of a pruned one, Optuna takes its latest value.
        """
        number = self._numbers[trial_id]
        trial = self._trial(number)
        known = self._storage.get_trial(trial).params
        distributions = self._distributions(space)
        for name, value in self._values(space).items():
            if name not in known:
                internal = distributions[name].to_internal_repr(value)
                self._storage.set_trial_param(trial, name, internal, distributions[name])
        self._running.remove(trial_id)
        state = self._end(trial_id, score)
        self.study.tell(number, score if state == TrialState.COMPLETE else None, state)

    def _end(self, trial_id: str, score: float | None) -> TrialState:
        if score is None:
            return TrialState.FAIL
        return TrialState.PRUNED if trial_id in self.pruned else TrialState.COMPLETE

    def _trial(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _distributions(self, space: keras_tuner.HyperParameters) -> dict[str, BaseDistribution]:
        """Of all parameters of a space, by their names in Optuna."""
        found = (parameter(hp, self._plain) for hp in space.space)
        return {p.name: p.distribution for p in found if p}

    def _values(self, space: keras_tuner.HyperParameters) -> dict[str, Value]:
        """Of the parameters that are active, as far as there are values that they can have."""
        found = {}
        for hp in space.space:
            if not space.is_active(hp) or hp.name not in space.values:
                continue
            if of := parameter(hp, self._plain):
                with contextlib.suppress(ValueError, TypeError):
                    found[of.name] = of.encode(space.values[hp.name])
        return found

    # -- coming back ---------------------------------------------------------------------------

    def get_state(self) -> State:
        """What the trials of the oracle do not say."""
        trials = self.study.get_trials(deepcopy=False)
        return {
            "trials": {
                trial_id: {
                    "parameters": trials[number].params,
                    "plain": self._plain,
                    "attributes": _plain(trials[number].system_attrs),
                }
                for trial_id, number in self._numbers.items()
            },
            "attributes": _plain(self._storage.get_study_system_attrs(self._id)),
            "pruned": sorted(self.pruned),
            "exhausted": type(self._sampler).__name__ if self.study.is_exhausted else "",
        }

    def set_state(self, state: State) -> None:
        """Before any `restore`."""
        self.pruned = set(state["pruned"])
        # Another sampler may have more to try.
        self.study.is_exhausted = state["exhausted"] == type(self._sampler).__name__
        for name, value in state["attributes"].items():
            self._storage.set_study_system_attr(self._id, name, value)

    def restore(
        self,
        trial_id: str,
        saved: State,
        space: keras_tuner.HyperParameters,
        reports: dict[int, float],
        is_running: bool,
        score: float | None,
    ) -> None:
        """A trial of a search that was saved, in the order in which they were asked for.

        Args:
            saved: What `get_state` had of it; an empty dictionary if that was not saved.
            reports: `{step: value}`.
            trial_id, space, score: As in `tell`.
            is_running: It is going on, or will be repeated.
        """
        state = TrialState.RUNNING if is_running else self._end(trial_id, score)
        value = score if state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED:
            latest = reports[max(reports)]
            value = None if np.isnan(latest) else latest
        distributions, values = self._distributions(space), self._values(space)
        parameters = {n: v for n, v in saved.get("parameters", {}).items() if n in distributions}
        if saved.get("plain", False) != self._plain:  # another kind of sampler goes on
            parameters = {name: values[name] for name in parameters if name in values}
        if is_running:
            self._running.add(trial_id)
        else:
            parameters |= {n: v for n, v in values.items() if n not in parameters}
        self._numbers[trial_id] = len(self.study.get_trials(deepcopy=False))
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params=parameters,
                distributions={name: distributions[name] for name in parameters},
                system_attrs=saved.get("attributes", {}),
                intermediate_values=reports,
            )
        )


def _plain(attributes: State) -> State:
    return {name: v for name, v in attributes.items() if not name.startswith(PICKLED)}


def _reseed(sampler: optuna.samplers.BaseSampler, seed: int, number: int) -> None:
    """Every random generator of a sampler: Optuna's own `reseed_rng` takes no seed."""
    for i, generator in enumerate(_generators(sampler)):
        sequence = np.random.SeedSequence([seed, number, i])
        if isinstance(generator, np.random.Generator):
            kind = type(generator.bit_generator)
            generator.bit_generator.state = kind(sequence).state
        else:
            generator.seed(sequence.generate_state(4))


def _generators(
    sampler: optuna.samplers.BaseSampler,
) -> Iterator[np.random.RandomState | np.random.Generator]:
    for value in vars(sampler).values():
        generator = getattr(value, "rng", value)  # Optuna's own are made at their first use
        if isinstance(generator, (np.random.RandomState, np.random.Generator)):
            yield generator
        elif isinstance(value, optuna.samplers.BaseSampler):
            yield from _generators(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the news that there is a study: KerasTuner shows the trials."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
