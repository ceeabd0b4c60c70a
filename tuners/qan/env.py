"""The learning rate problem as a `gymnasium.Env`."""

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import wrong
from keras_drmad.typing import Structure

from .agent.rewards import step_rewards
from .arguments import check_kinds
from .training.actions import Actions
from .training.goals import Goal, GoalLike
from .training.report import DIVERGED, STOP, TRUNCATED, Decision, Report
from .training.states import LIMIT, Ratios, State
from .training.steered_training import SteeredTraining

try:
    import gymnasium
except ImportError as error:
    raise ImportError("`TrainingEnv` needs gymnasium: `pip install keras_drmad[qan]`.") from error


class TrainingEnv(gymnasium.Env):
    """A training as an environment: a step is a chunk of training, an action one of `Actions`.

    Observations are the `states` of the training (float32), rewards minus the cost of the chunk, 1 for
    `decision_every` steps; a diverged training pays for what was left of its budget. An episode is
    *terminated* when the goal is reached or training diverges, and *truncated* at the end of the
    budget.

    Args:
        build_model: A function without arguments that returns a compiled model.
        x, y, sample_weight: Training data, as in `fit`.
        goal: A `Goal`, `(metric, value)` or `(metric, value, "seconds")`.
        validation_data, batch_size, epochs: As in `fit`; `epochs` is the budget.
        decision_every: Steps between decisions. Defaults to 20.
        states: Defaults to `[Ratios()]`.
        actions: An `Actions(per="global")`. Defaults to five multipliers of the learning rate.

    Raises:
        ValueError: Something in the data, the model, the goal, the states or the actions. To see it, the
            constructor seeds as `reset` does, and evaluates a model.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016, for the
        problem; Towers et al., Gymnasium, 2024, for the interface. The rewards are our own.

    Example:

    >>> def build():
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> x = np.random.rand(64, 4)
    >>> data = {"validation_data": (x, x.sum(1)), "batch_size": 8, "epochs": 2}
    >>> env = TrainingEnv(build, x, x.sum(1), goal=("val_loss", 1e-3), decision_every=4, **data)
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(4)  # twice the rate
    >>> reward
    -1.0
    >>> env.close()
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's)

    def __init__(
        self,
        build_model: Callable[[], keras.Model],
        x: Structure,
        y: Structure = None,
        sample_weight: Structure = None,
        *,
        goal: GoalLike,
        validation_data: Structure = None,
        batch_size: int | None = None,
        epochs: int = 1,
        decision_every: int = 20,
        states: Sequence[State] | None = None,
        actions: Actions | None = None,
    ) -> None:
        if isinstance(build_model, keras.Model) or not callable(build_model):
            raise wrong("build_model", build_model, "a function that returns a compiled model")
        self.actions = Actions() if actions is None else actions
        states = [Ratios()] if states is None else states
        check_kinds(states, self.actions)
        if self.actions.per != "global":
            raise ValueError('`TrainingEnv` decides for the whole model: `Actions(per="global")`.')
        if unprepared := [type(s).__name__ for s in states if s.needs_warm_start()]:
            raise ValueError(
                f"`TrainingEnv` has no warm start for states to prepare with: {unprepared}. Pass them "
                "prepared: `BagOfFilters(codebook=...)`."
            )
        self.goal = Goal.of(goal)
        self._training = SteeredTraining(
            build_model,
            x,
            y,
            sample_weight,
            validation_data=validation_data,
            batch_size=batch_size,
            epochs=epochs,
            every=decision_every,
            states=states,
            actions=self.actions,
            goal=self.goal,
        )
        self._training.check()
        # Others than `Ratios` say nothing of their range: any float32 but infinity.
        most = float(np.finfo("float32").max)
        limits = [np.full(s.size, LIMIT if isinstance(s, Ratios) else most) for s in states]
        high = np.concatenate(limits).astype("float32")
        self.observation_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(self.actions))
        self._every = decision_every
        self._thread: threading.Thread | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new training, with its `seed`; one in progress is ended.

        The global generators of Python, NumPy and Keras are seeded, too, and TensorFlow's by the
        constructor.

        Raises:
            RuntimeError: The training has ended before there was anything to decide.
        """
        super().reset(seed=seed)
        self.close()
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._asked: queue.Queue[Report | BaseException] = queue.Queue()
        self._answers: queue.Queue[Decision] = queue.Queue()
        # `fit` calls for decisions; here decisions call for training, so it runs beside.
        policy = keras.config.dtype_policy()  # of this thread
        self._thread = threading.Thread(
            target=_train,
            args=(self._training, seed, policy, self._asked, self._answers),
            daemon=True,
        )
        # The thread knows nothing of this object, so that it ends with it even if it is not closed.
        self._stop = weakref.finalize(self, self._answers.put, STOP)
        self._stop.atexit = False
        self._thread.start()
        self._report = self._next()
        if self._report.ended:
            self.close()
            raise RuntimeError(self._training.undecided(self._report.ended))
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Applies an action, and trains for a chunk; as in `gymnasium.Env`.

        Raises:
            RuntimeError: The episode has ended.
            ValueError: There is no such action.
        """
        if self._thread is None or self._report.ended:
            raise RuntimeError("The episode has ended: call `reset`.")
        if not self.action_space.contains(action):
            raise ValueError(f"`action` must be in {self.action_space}. Received: {action!r}")
        before = self._report.gap
        self._answers.put([int(action)])
        self._report = report = self._next()
        reward = step_rewards(
            self.goal,
            [report.cost],
            [before, report.gap],
            report.ended == DIVERGED,
            self.goal.left(report, self._training.budget, self._every),
        )
        truncated = report.ended == TRUNCATED
        terminated = bool(report.ended) and not truncated
        return self._observation(), float(reward[0]), terminated, truncated, self._info()

    def close(self) -> None:
        """Ends the training in progress."""
        if self._thread is not None:
            self._stop()
            self._thread.join()
            self._thread = None

    def _next(self) -> Report:
        report = self._asked.get()
        if isinstance(report, BaseException):
            self.close()
            raise report
        return report

    def _observation(self) -> np.ndarray:
        # What states say of weights that have diverged may be no numbers.
        return np.nan_to_num(self._report.observation[0])

    def _info(self) -> dict[str, Any]:
        report = self._report
        return {
            "step": report.step,
            "learning_rate": float(report.rates[0]),
            self.goal.metric: report.metric,
            "ended": report.ended,
        }


def _train(
    training: SteeredTraining,
    seed: int,
    policy: keras.DTypePolicy,
    asked: "queue.Queue[Report | BaseException]",
    answers: "queue.Queue[Decision]",
) -> None:
    def decide(report: Report | None) -> Decision:
        if report is None:
            return None
        asked.put(report)
        return None if report.ended else answers.get()

    try:
        keras.config.set_dtype_policy(policy)
        training.run(seed, decide)
        asked.put(RuntimeError("The training is over."))  # for who still waits for a decision
    except BaseException as error:  # it belongs to the caller of `step`
        asked.put(error)
