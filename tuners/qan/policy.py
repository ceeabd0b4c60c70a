"""`Policy`: what was learned, to be taken away, saved, and used in plain `fit`."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import flag, number, of_kind, path_like, positive_integer
from keras_drmad.typing import Logs, Structure

from ..storage import files
from .agent.greedy import Greedy
from .agent.q_network import check_sizes
from .policy_file import PolicyModel, loaded
from .search.schedules import Schedule
from .training import filters  # noqa: F401 (files may hold states of it)
from .training.actions import Actions
from .training.decision_callback import DecisionCallback
from .training.evaluation import Validation
from .training.goals import Goal, GoalLike
from .training.report import REACHED, Change, Decision, Report
from .training.sample_selection import SampleSelection
from .training.states import State, check_kinds_of


class Policy:
    """How a training's settings follow from what is seen of it: a Q-network, or a schedule.

    The network's greedy action is taken:

        a = argmax_a Q(s, a)

    with s the `states` of the training, every `decision_every` steps of an epoch and at its end.

    Args:
        states: A list of `State`s.
        actions: The `Actions`.
        goal: What it was learned for: a `Goal`, `(metric, value)` or `(metric, value, "seconds")`.
        decision_every: Steps between decisions. Required, as are all above and the next two.
        start_rate: The learning rate that its trainings began with, for information.
        budget: Their steps, that the feature `time` is relative to.
        network: A `keras.Model` of Q-values, whose weights stay as they are. Defaults to None: it is a
            schedule.
        learning_rate: A `Schedule`. Defaults to None: it is a network.

    Raises:
        ValueError: Both a `network` and a `learning_rate`, or neither; a network that does not take what
            the states give, or has not a value for each action; no such goal; numbers that are none.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016. That a
        policy may be a schedule, and its use in `fit`, are our own.

    Example:

    >>> from keras_drmad.tuners.qan.search.schedules import Schedule
    >>> from keras_drmad.tuners.qan.training.states import Ratios
    >>> policy = Policy([Ratios()], Actions(), Goal("val_loss", 1e-9), 2, 0.02, 8,
    ...                 learning_rate=Schedule("cosine", 0.02, 8))
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((64, 4)), np.ones(64), batch_size=8, verbose=0,
    ...                     callbacks=[policy.as_callback()])
    >>> bool(history.history["learning_rate"][-1] < 0.01)
    True
    """

    def __init__(
        self,
        states: Sequence[State],
        actions: Actions,
        goal: GoalLike,
        decision_every: int,
        start_rate: float,
        budget: int,
        network: keras.Model | None = None,
        learning_rate: Schedule | None = None,
    ) -> None:
        if (network is None) == (learning_rate is None):
            raise ValueError("A policy is either a `network` or a `learning_rate`, a `Schedule`.")
        check_kinds_of(states)
        of_kind("actions", actions, Actions, "an `Actions(...)`")
        self.states, self.actions, self.goal = list(states), actions, Goal.of(goal)
        self.decision_every = positive_integer("decision_every", decision_every)
        self.start_rate = number("start_rate", start_rate, least=0)
        self.budget = positive_integer("budget", budget)
        if learning_rate is not None:
            of_kind("learning_rate", learning_rate, Schedule, "a `Schedule`")
        if network is not None:
            check_sizes(network, self.states, actions)
        self.network = network
        self._greedy = None if network is None else Greedy(network)
        self.learning_rate = learning_rate

    def __repr__(self) -> str:
        if self.learning_rate is not None:
            which = f"the schedule {self.learning_rate}"
        else:
            which = f"a network over {', '.join(type(s).__name__ for s in self.states)}"
            which += f", of {len(self.actions)} actions every {self.decision_every} steps"
        begin = f"from a learning rate of {self.start_rate:.4g}, within {self.budget} steps"
        return f"<Policy: {which}; learned for {self.goal}, {begin}>"

    def decide(self, report: Report | None) -> Change:
        """What to do at a `Report` (or None, before there is one).

        Returns:
            One action for each group, a learning rate, or None.
        """
        if self.learning_rate is not None:
            return self.actions.within(self.learning_rate(report.step if report else 0))
        if report is None or self._greedy is None:
            return None
        return [int(choice) for choice in self._greedy(report.observation)]

    def as_callback(
        self,
        validation_data: Structure = None,
        batch_size: int | None = None,
        budget: int | None = None,
        goal: GoalLike | None = None,
        stop: bool = False,
        decision_every: int | None = None,
    ) -> "PolicyCallback":
        """A Keras callback that steers `fit` by this policy.

        The training begins with the learning rate that the model is compiled with. While the goal is
        reached, after the budget, and once a loss is not finite, the rate stays. Decisions come at the
        ends of `fit`'s executions: with `steps_per_execution` above 1, at the first one that is not too
        early.

        A policy that selects samples, too (`Actions(sample_selection=...)`), needs `fit` to read its
        `batches`; otherwise it warns, and steers the optimizer only:

            callback = policy.as_callback((x_val, y_val))
            data = callback.batches(model, x, y, batch_size=128)
            model.fit(data, epochs=4, shuffle=False, callbacks=[callback])

        Args:
            validation_data: `(x, y)` or a dataset, evaluated at each decision, for policies that look
                at validation metrics. Without, those of the training batches stand in for them.
            batch_size: Of validation arrays. Defaults to 1024.
            budget: Steps of the training, for what the policy sees of time. Defaults to what `fit`
                is told, or what the policy was learned with if `fit` does not know.
            goal: Of this training, as above. Defaults to what the policy was learned for.
            stop: Whether training ends once the goal is reached, in the middle of an epoch, too. Nothing
                else ends it.
            decision_every: Steps between decisions. Defaults to what the policy was learned with. For
                batches that are b times smaller, take b times as many, and compile the model with a
                learning rate that is b times smaller.

        Returns:
            The callback; it has a method `batches`, see above.

        Raises:
            ValueError: `decision_every` or `budget` is no positive integer, no such goal, or validation
                data of another kind. At the beginning of `fit`: the goal's metric is not measured, the
                model's optimizer cannot be steered so, or the training's length is not known.

        Example:

        >>> from keras_drmad.tuners.qan.agent.q_network import q_network
        >>> from keras_drmad.tuners.qan.training.states import Ratios
        >>> network = q_network([((7,), None)], actions=5, seed=0)
        >>> policy = Policy([Ratios()], Actions(), Goal("val_loss", 1e-9), 4, 0.02, 16, network=network)
        >>> x, y = np.random.rand(64, 4), np.random.rand(64)
        >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> callback = policy.as_callback((x, y), goal=("val_loss", 1.0), stop=True)
        >>> history = model.fit(x, y, batch_size=8, epochs=2, callbacks=[callback], verbose=0)
        >>> sorted(history.history)
        ['learning_rate', 'loss', 'val_loss']
        """
        if decision_every is None:
            decision_every = self.decision_every
        positive_integer("batch_size", batch_size, optional=True)
        return PolicyCallback(
            self,
            self.goal if goal is None else Goal.of(goal),
            positive_integer("decision_every", decision_every),
            validation=None if validation_data is None else Validation(validation_data, batch_size),
            budget=positive_integer("budget", budget, optional=True),
            stop=(REACHED,) if flag("stop", stop) else (),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes one file.

        Args:
            path: Its name, which ends in `.keras`.

        Raises:
            ValueError: It ends in something else.

        Example:

        >>> from keras_drmad.tuners.qan.search.schedules import Schedule
        >>> policy = Policy([], Actions(), Goal("val_loss", 0.1), 2, 0.02, 8,
        ...                 learning_rate=Schedule("constant", 0.1))
        >>> policy.save(folder / "policy.keras")
        >>> Policy.load(folder / "policy.keras").learning_rate.peak
        0.1
        """
        name = path_like("path", path)
        if not name.endswith(".keras"):
            raise ValueError(f'`path` must end in ".keras". Received: path={name!r}')
        settings = {
            "states": self.states,
            "actions": self.actions,
            "goal": self.goal,
            "decision_every": self.decision_every,
            "start_rate": float(self.start_rate),
            "budget": int(self.budget),
            "learning_rate": self.learning_rate and self.learning_rate.get_config(),
        }
        with files.replaced(os.path.abspath(name), ".keras") as temporary:
            PolicyModel(self.network, **settings).save(temporary)

    @classmethod
    def load(
        cls, path: str | os.PathLike, custom_objects: dict[str, Any] | None = None
    ) -> "Policy":
        """A policy from a file of `save`; states of your own must be known to Keras by then.

        Args:
            path: The file.
            custom_objects: `{name: class}` of what is not registered with Keras. Defaults to None.

        Returns:
            The `Policy`.

        Raises:
            ValueError: There is no such file, it holds something else, or the network does not take
                what the states give.

        Example:

        >>> from keras_drmad.tuners.qan.agent.q_network import q_network
        >>> from keras_drmad.tuners.qan.training.states import Ratios
        >>> network = q_network([((7,), None)], actions=5, seed=0)
        >>> policy = Policy([Ratios()], Actions(), Goal("val_loss", 0.1), 2, 0.02, 8, network=network)
        >>> policy.save(folder / "network.keras")
        >>> loaded = Policy.load(folder / "network.keras")
        >>> len(loaded.actions), str(loaded.goal), loaded.budget
        (5, 'val_loss of 0.1', 8)
        """
        if custom_objects is not None:
            of_kind("custom_objects", custom_objects, dict, "a dictionary of classes by name")
        model = loaded(path_like("path", path), custom_objects)
        settings = dict(model.settings)
        schedule = settings.pop("learning_rate")
        rate = None if schedule is None else Schedule(**schedule)
        return cls(network=model.network, learning_rate=rate, **settings)

    def differences(self, states: Sequence[State], actions: Actions) -> list[str]:
        """What of another agent's settings this policy's network was not made for; a list of words."""
        found = []
        own, other = (
            [(type(s).__name__, s.get_config()) for s in of] for of in (self.states, states)
        )
        if own != other:
            found.append(f"states: {own} in the policy, {other} here")
        if self.actions.get_config() != actions.get_config():
            found.append(
                f"actions: {self.actions.get_config()} in the policy, {actions.get_config()} here"
            )
        return found


class PolicyCallback(DecisionCallback):
    """Steers `fit` by a policy; see `Policy.as_callback`."""

    def __init__(self, policy: Policy, goal: Goal, every: int, **settings: Any) -> None:
        self.policy = policy
        super().__init__(policy.states, policy.actions, goal, every, self._decide, **settings)
        self._selection: SampleSelection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | dict.fromkeys(("_selection", "select"))

    def batches(
        self,
        model: keras.Model,
        x: Structure,
        y: Structure,
        sample_weight: Structure = None,
        batch_size: int = 32,
    ) -> tf.data.Dataset:
        """A `tf.data.Dataset` for `fit`, of batches whose samples the policy chooses as it goes on.

        It has as many batches as `fit` makes of these data. Samples are chosen for `decision_every`
        steps together, from twice as many candidates; once the policy decides nothing (the goal is
        reached, the budget over), in a random order. That follows from NumPy's global generator, which
        `keras.utils.set_random_seed` seeds.

        Args:
            model: The compiled model that is trained, with one loss, on one replica.
            x, y, sample_weight: Arrays, as in `fit`.
            batch_size: Samples a step.

        Raises:
            ValueError: Data that are no arrays, or a model with several losses or on several replicas.
                At the beginning of `fit`: another model, other data, or a `steps_per_execution` that
                does not divide `decision_every`.

        Example:

        >>> from keras_drmad.tuners.qan.agent.q_network import q_network
        >>> from keras_drmad.tuners.qan.training.states import Ratios
        >>> actions = Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))
        >>> network = q_network([((7,), None)], actions=len(actions), seed=0)
        >>> policy = Policy([Ratios()], actions, Goal("val_loss", 1e-9), 4, 0.02, 16, network=network)
        >>> x, y = np.random.rand(64, 4), np.random.rand(64)
        >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> callback = policy.as_callback((x, y))
        >>> batches = callback.batches(model, x, y, batch_size=8)
        >>> history = model.fit(batches, epochs=2, shuffle=False, callbacks=[callback], verbose=0)
        >>> sorted(history.history)
        ['learning_rate', 'loss', 'val_loss']
        """
        self._selection = SampleSelection(model, x, y, sample_weight, batch_size, self.every)
        self.select = self._selection.select
        return self._selection.dataset

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self._selection is not None:
            self._check_batches(self._selection)
            self._selection.restart(int(np.random.randint(2**31)))
        elif self.policy.network is not None and self.policy.actions.chooses_samples():
            warnings.warn(
                f"The policy selects samples, too ({self.policy.actions.sample_selection}), but `fit` "
                "has an order of its own: only the optimizer is steered. Let `fit` read "
                "`callback.batches(model, x, y)`, with `callback` being this one.",
                stacklevel=2,
            )
        super().on_train_begin(logs)
        if self.policy.network is not None and self.every > self.view.budget:
            warnings.warn(
                f"`decision_every={self.every}` is more than the {self.view.budget} steps of this "
                "training: there is hardly anything to decide. Use a smaller one.",
                stacklevel=2,
            )

    def _check_batches(self, selection: SampleSelection) -> None:
        if selection.model is not self.model:
            raise ValueError("`batches` was given another model than the one that is trained.")
        if self._epoch_steps != selection.steps:
            raise ValueError(
                "`fit` must read what `batches` has returned, whole epochs of "
                f"{selection.steps} steps. Received: epochs of {self._epoch_steps} steps"
            )
        if self.every % self.model.steps_per_execution:
            raise ValueError(
                "`steps_per_execution` must divide the steps between decisions, for which samples are "
                f"chosen. Received: steps_per_execution={self.model.steps_per_execution}, "
                f"decision_every={self.every}"
            )

    def _steps_in_all(self) -> int:
        if self._budget is None and self._epoch_steps is None:
            return self.policy.budget
        return super()._steps_in_all()

    def _decide(self, report: Report | None) -> Decision:
        if report is None:  # `fit` may begin at a later epoch
            rate = self.policy.learning_rate
            return None if rate is None else self.policy.actions.within(rate(self.view.step))
        if report.ended or self.goal.reached(report.metric):
            return None
        is_first = len(self.reports) == 1
        if is_first and report.step and self.observes_first and self.policy.network is not None:
            return None  # it was decided at the end of the epoch before
        return self.policy.decide(report)
