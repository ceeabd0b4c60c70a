"""The learning rate problem as a `gymnasium.Env`."""

import queue
import threading

import numpy as np

from keras_drmad.tuners.qan.actions import Actions
from keras_drmad.tuners.qan.goals import Goal, rewards
from keras_drmad.tuners.qan.states import Ratios
from keras_drmad.tuners.qan.steering import DIVERGED, STOP, TRUNCATED
from keras_drmad.tuners.qan.subject import Subject

try:
    import gymnasium
except ImportError as error:
    raise ImportError("`TrainingEnv` needs gymnasium: `pip install keras_drmad[qan]`.") from error


class TrainingEnv(gymnasium.Env):
    """A training as an environment: a step is a chunk of training, an action one of `Actions`.

    Observations are the `states` of the training (float32), rewards minus the cost of the chunk, 1 for
    `every` steps; a diverged training pays for what was left of its budget. An episode is
    *terminated* when the goal is reached or training diverges, and *truncated* at the end of the
    budget.

    Args:
        build_model: A function without arguments that returns a compiled model.
        x, y: Training data, as in `fit`.
        goal: A `Goal` or `(metric, value)`.
        validation_data, batch_size, epochs: As in `fit`; `epochs` is the budget.
        every: Steps between decisions. Defaults to 20.
        states: Defaults to `[Ratios()]`.
        actions: An `Actions(per="global")`. Defaults to five multipliers of the learning rate.

    Example:

    >>> def build():
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> x = np.random.rand(64, 4)
    >>> data = {"validation_data": (x, x.sum(1)), "batch_size": 8, "epochs": 2}
    >>> env = TrainingEnv(build, x, x.sum(1), goal=("val_loss", 1e-3), every=4, **data)
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(4)  # twice the rate
    >>> reward
    -1.0
    >>> env.close()
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's)

    def __init__(
        self,
        build_model,
        x,
        y=None,
        *,
        goal,
        validation_data=None,
        batch_size=None,
        epochs=1,
        every=20,
        states=None,
        actions=None,
    ):
        self.actions = Actions() if actions is None else actions
        if self.actions.per != "global":
            raise ValueError('`TrainingEnv` decides for the whole model: `Actions(per="global")`.')
        states = [Ratios()] if states is None else states
        self.goal = Goal.of(goal)
        self._subject = Subject(
            build_model,
            x,
            y,
            validation_data=validation_data,
            batch_size=batch_size,
            epochs=epochs,
            every=every,
            states=states,
            actions=self.actions,
            goal=self.goal,
        )
        size = sum(state.size for state in states)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(self.actions))
        self._every, self._thread = every, None

    def reset(self, *, seed=None, options=None):
        """A new training, with its `seed`."""
        super().reset(seed=seed)
        self.close()
        self._asked, self._answers = queue.Queue(), queue.Queue()
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        # `fit` calls for decisions; here decisions call for training, so it runs beside.
        self._thread = threading.Thread(target=self._train, args=(seed,), daemon=True)
        self._thread.start()
        self._report = self._next()
        self._gaps = [self._report.gap]
        return self._report.observation[0], self._info()

    def step(self, action):
        if self._thread is None or self._report.ended:
            raise RuntimeError("The episode has ended: call `reset`.")
        self._answers.put([int(action)])
        self._report = report = self._next()
        self._gaps.append(report.gap)
        budget = self._subject.steering.view.budget
        reward = rewards(
            self.goal,
            [report.cost],
            self._gaps[-2:],
            0.0,
            1.0,
            report.ended == DIVERGED,
            (budget - report.step) / self._every,
        )
        truncated = report.ended == TRUNCATED
        terminated = bool(report.ended) and not truncated
        return report.observation[0], float(reward[0]), terminated, truncated, self._info()

    def close(self):
        """Ends the training in progress."""
        if self._thread is not None:
            self._answers.put(STOP)
            self._thread.join()
            self._thread = None

    def _train(self, seed):
        def decide(report):
            if report is None:
                return None
            self._asked.put(report)
            return None if report.ended else self._answers.get()

        try:
            self._subject.run(seed, decide)
        except BaseException as error:  # it belongs to the caller of `step`
            self._asked.put(error)

    def _next(self):
        report = self._asked.get()
        if isinstance(report, BaseException):
            self._thread = None
            raise report
        return report

    def _info(self):
        report = self._report
        return {
            "step": report.step,
            "learning_rate": float(report.rates[0]),
            self.goal.metric: report.metric,
            "ended": report.ended,
        }
