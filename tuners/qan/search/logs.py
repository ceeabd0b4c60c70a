"""`EpisodeLogs`: what is to be seen of an episode in its trial, in TensorBoard, and for pictures."""

import logging
import os

import numpy as np
import tensorflow as tf
from keras_tuner.engine.trial import Trial

from keras_drmad.typing import Arrays, Logs

from ...storage import files
from ..project import QANProject
from .episode import Episode
from .rollout import Rollout

# Learning rates at the first and the last decision of an episode, means over groups.
FIRST_RATE, LAST_RATE = "first_learning_rate", "last_learning_rate"

_log = logging.getLogger("keras_drmad")


class EpisodeLogs:
    """Logs of episodes that have ended.

    TensorBoard gets, in `folder`/agent, a point an episode of all numbers, by the episode's kind
    where that matters, and the histogram of its actions; in a folder of its own beside it, what was
    observed over the episode's steps.

    Args:
        project: names of files.

    Attributes:
        folder: where TensorBoard reads; None for nowhere.
    """

    def __init__(self, project: QANProject) -> None:
        self._project = project
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self.folder: str | None = None

    def record(
        self, trial: Trial, episode: Episode, rollout: Rollout, learned: Logs, objective: str
    ) -> None:
        """Adds an episode.

        Args:
            trial: of KerasTuner; gets the numbers as metrics.
            episode, rollout: the `Episode` and its `Rollout`.
            learned: numbers from learning.
            objective: name of the metric that it is compared by.
        """
        numbers = {"epsilon": rollout.exploration.epsilon, "return": -float(np.sum(rollout.costs))}
        history = rollout.history()
        rates = zip((FIRST_RATE, LAST_RATE), history["rates"][[0, -1]].mean(-1), strict=True)
        numbers |= dict(rates) | learned
        for name, value in numbers.items():
            trial.metrics.register(name, direction="min")
            trial.metrics.update(name, float(value))
        path = self._project.history(trial.trial_id)
        files.attempt(files.write_arrays, path, decisions=history)  # nothing depends on it
        if self.folder is None:
            return
        numbers[f"{episode.kind}/{objective}"] = trial.metrics.get_best_value(objective)
        folder = os.path.join(self.folder, "agent")
        try:
            self._write_episode(folder, episode.number, numbers, history)
            _write_steps(os.path.join(folder, trial.trial_id), history)
        except tf.errors.OpError as error:
            _log.error("TensorBoard's logs could not be written (%s).", error)

    def _write_episode(self, folder: str, number: int, numbers: Logs, history: Arrays) -> None:
        if folder not in self._writers:  # another search may have another one
            self._writers[folder] = tf.summary.create_file_writer(folder)
        with self._writers[folder].as_default(step=number):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
            tf.summary.histogram("actions", history["actions"].ravel())
        self._writers[folder].flush()


def _write_steps(folder: str, history: Arrays) -> None:
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for i, step in enumerate(history["steps"]):
            tf.summary.scalar("over steps/learning rate", history["rates"][i].mean(), step)
            tf.summary.scalar("over steps/gap", history["gaps"][i], step)
    writer.close()
