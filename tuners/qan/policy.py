"""`Policy`: what was learned, to be taken away, saved, and used in plain `fit`."""

import warnings

import keras

from keras_drmad.paths.base import positive_integer
from keras_drmad.tuners.qan import filters  # noqa: F401 (files may hold states of it)
from keras_drmad.tuners.qan.goals import Goal
from keras_drmad.tuners.qan.network import Greedy
from keras_drmad.tuners.qan.schedules import Schedule
from keras_drmad.tuners.qan.steering import REACHED, Steering
from keras_drmad.tuners.qan.validation import Validation


@keras.saving.register_keras_serializable(package="keras_drmad")
class PolicyModel(keras.Model):
    """A policy as a Keras model, so that it is one `.keras` file."""

    def __init__(self, network=None, **settings):
        super().__init__(name="policy")
        self.network, self.settings = network, settings
        self.built = True

    def call(self, observations):
        return self.network(observations)

    def get_config(self):
        return {
            "network": self.network and keras.saving.serialize_keras_object(self.network),
            "settings": keras.saving.serialize_keras_object(self.settings),
        }

    @classmethod
    def from_config(cls, config):
        config = keras.saving.deserialize_keras_object(config)
        return cls(config["network"], **config["settings"])


class Policy:
    """How a training's settings follow from what is seen of it: a Q-network, or a schedule.

    The network's greedy action is taken:

        a = argmax_a Q(s, a)

    with s the `states` of the training, every `every` steps of an epoch and at its end.

    Args:
        states: A list of `State`s.
        actions: The `Actions`.
        goal: The `Goal` that it was learned for.
        every: Steps between decisions.
        start_rate: The learning rate that its trainings began with, for information.
        budget: Their steps, that the feature `time` is relative to.
        network: A `keras.Model` of Q-values; None if it is a schedule.
        schedule: A `Schedule`; None if it is a network.

    Example:

    >>> from keras_drmad.tuners.qan.schedules import Schedule
    >>> from keras_drmad.tuners.qan.states import Ratios
    >>> policy = Policy([Ratios()], Actions(), Goal("val_loss", 1e-9), 2, 0.02, 8,
    ...                 schedule=Schedule("cosine", 0.02, 8))
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((64, 4)), np.ones(64), batch_size=8, verbose=0,
    ...                     callbacks=[policy.schedule()])
    >>> bool(history.history["learning_rate"][-1] < 0.01)
    True
    """

    def __init__(
        self, states, actions, goal, every, start_rate, budget, network=None, schedule=None
    ):
        if (network is None) == (schedule is None):
            raise ValueError("A policy is either a `network` or a `schedule`.")
        self.states, self.actions, self.goal = list(states), actions, goal
        self.every, self.start_rate, self.budget = every, start_rate, budget
        self.network, self._greedy = network, network and Greedy(network)
        self.rate = schedule  # of the step; `schedule()` is the callback

    def decide(self, report):
        """What to do at a `Report` (or None, before there is one).

        Returns:
            One action for each group, a learning rate, or None.
        """
        if self.rate is not None:
            return self.actions.within(self.rate(report.step if report else 0))
        if report is None:
            return None
        return [int(choice) for choice in self._greedy(report.observation)]

    def schedule(
        self,
        validation_data=None,
        batch_size=None,
        budget=None,
        goal=None,
        stop=False,
        every=None,
    ):
        """A Keras callback that steers `fit` by this policy.

        The training begins with the learning rate that the model is compiled with. While the goal is
        reached, after the budget, and once a loss is not finite, the rate stays. Decisions come at the
        ends of `fit`'s executions: with `steps_per_execution` above 1, at the first one that is not too
        early. Choices of samples (`Actions(pools=...)`) are passed over, with a warning: `fit` has an
        order of its own.

        Args:
            validation_data: `(x, y)` or a dataset, evaluated at each decision, for policies that look
                at validation metrics. Without, those of the training batches stand in for them.
            batch_size: Of validation arrays; at least 1024.
            budget: Steps of the training, for what the policy sees of time. Defaults to what `fit`
                is told, or what the policy was learned with if `fit` does not know.
            goal: A `Goal` or `(metric, value)` of this training. Defaults to what the policy was
                learned for.
            stop: Whether training ends once the goal is reached, in the middle of an epoch, too. Nothing
                else ends it.
            every: Steps between decisions. Defaults to what the policy was learned with. For batches
                of another size, compile the model with a learning rate that is so many times larger,
                and take so many times fewer steps here.
        """
        if self.network is not None and self.actions.pools != ("uniform",):
            warnings.warn(
                f"The policy has learned to choose samples, too (pools={self.actions.pools}). `fit` has "
                "an order of its own: only the optimizer is steered.",
                stacklevel=2,
            )
        return PolicySchedule(
            self,
            self.every if every is None else positive_integer("every", every),
            validation_data,
            batch_size,
            budget,
            goal,
            stop,
        )

    def save(self, path):
        """Writes one `.keras` file."""
        settings = {
            "states": self.states,
            "actions": self.actions,
            "goal": self.goal,
            "every": self.every,
            "start_rate": float(self.start_rate),
            "budget": int(self.budget),
            "schedule": self.rate and self.rate.get_config(),
        }
        PolicyModel(self.network, **settings).save(path)

    @classmethod
    def load(cls, path, custom_objects=None):
        """A policy from a file of `save`; states of your own must be known to Keras by then.

        Raises:
            ValueError: The file holds something else, or the network does not take what the states
                give.
        """
        model = keras.saving.load_model(path, custom_objects=custom_objects)
        if not isinstance(model, PolicyModel):
            raise ValueError(f"{path} holds a {type(model).__name__}, not a policy.")
        settings = dict(model.settings)
        schedule = settings.pop("schedule")
        policy = cls(network=model.network, schedule=schedule and Schedule(**schedule), **settings)
        policy.check()
        return policy

    def check(self):
        """Whether network, states and actions belong together.

        Raises:
            ValueError: What differs.
        """
        if self.network is None:
            return
        size = sum(state.size for state in self.states)
        takes, gives = self.network.input_shape[-1], self.network.output_shape[-1]
        if takes != size:
            parts = ", ".join(f"{type(s).__name__}: {s.size}" for s in self.states)
            raise ValueError(
                f"The network takes {takes} numbers; the states give {size} ({parts})."
            )
        if gives != len(self.actions):
            raise ValueError(
                f"The network has {gives} actions; {len(self.actions)} are given: "
                f"{self.actions.get_config()}"
            )

    def differences(self, states, actions):
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


class PolicySchedule(Steering):
    """Steers `fit` by a policy; see `Policy.schedule`."""

    def __init__(self, policy, every, validation_data, batch_size, budget, goal, stop):
        self.policy = policy
        super().__init__(
            policy.states,
            policy.actions,
            policy.goal if goal is None else Goal.of(goal),
            every,
            self._decide,
            stop=(REACHED,) if stop else (),
            budget=budget,
        )
        self._data = validation_data and Validation(validation_data, batch_size)

    def on_train_begin(self, logs=None):
        self.validate = self._data and (lambda: self._data(self.model))
        super().on_train_begin(logs)

    def _steps_in_all(self):
        if self._budget is None and self.params.get("steps") is None:
            return self.policy.budget
        return super()._steps_in_all()

    def _decide(self, report):
        if report is not None and (report.ended or self.goal.reached(report.metric)):
            return None
        return self.policy.decide(report)
