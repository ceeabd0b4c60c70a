"""What is to be seen of a trial beside its score: learned values, in a file and in TensorBoard."""

import copy
import os
from collections.abc import Sequence

import keras
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.typing import Logs

from .. import tensorboard
from ..storage import files
from .learned import Learned
from .place import GRADIENT_NUMBER, ITERATION, LEARNED, RUN, START
from .project import DrMADProject
from .training import DifferentiatedTraining


def write(
    project: DrMADProject,
    trial: Trial,
    callbacks: Sequence[keras.callbacks.Callback],
    learned: Learned,
    found: Logs,
) -> None:
    """Writes each group's values; for TensorBoard as curves over trials, one for each meta-run."""
    values = learned.as_logs()
    files.attempt(files.write_json, project.learned(trial.trial_id), values)
    if (folder := tensorboard.folder(callbacks)) is not None:
        run = os.path.join(folder, f"run_{trial.hyperparameters.values[RUN]:03d}")
        tensorboard.write(run, int(trial.trial_id), values | found)


def as_hparams(trial: Trial, training: DifferentiatedTraining) -> Trial:
    """The trial as HParams show it: its place, and medians of what is learned, at the start and now."""
    shown, values = copy.copy(trial), trial.hyperparameters.values
    shown.hyperparameters = trial.hyperparameters.copy()
    more = {name: values[name] for name in (RUN, ITERATION, GRADIENT_NUMBER)}
    for prefix, of in ((START, training.compiled), (LEARNED, training.learned.effective())):
        more |= {f"{prefix}{kind}": float(np.median(v)) for kind, v in of.items()}
    for name, value in more.items():
        shown.hyperparameters.values.pop(name, None)
        shown.hyperparameters.Fixed(name, value)
    return shown
