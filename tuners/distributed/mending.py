"""What a search goes on from, where files of it are damaged or missing."""

import glob
import logging

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from ..storage import files
from ..storage.damage import DamagedFile
from ..storage.project import Project

_log = logging.getLogger("keras_drmad")


def mend(project: Project) -> None:
    """Puts files in order that KerasTuner reads when a search goes on.

    Where `oracle.json` cannot be read, the one before takes its place: that is the search before its
    last change. A trial that had ended, and whose file cannot be read, counts as a failed one.

    Raises:
        DamagedFile: There is nothing to go on from.
    """
    try:
        state = _read(project.oracle)
    except DamagedFile as damage:
        try:
            state = _read(project.oracle + files.BEFORE)
        except DamagedFile:
            raise damage from None
        _log.warning("%s The search goes on from the state before.", damage)
        files.write_json(project.oracle, state)
    for name in state["start_order"]:
        try:
            _read(project.trial(name))
        except DamagedFile as damage:
            if name not in state["end_order"]:
                raise
            _log.warning("%s Trial %s counts as failed.", damage, name)
            lost = Trial(keras_tuner.HyperParameters(), name, TrialStatus.FAILED, str(damage))
            files.write_json(project.trial(name), lost.get_state())
    for path in glob.glob(project.trial("*")):  # KerasTuner reads all that there are
        try:
            _read(path)
        except DamagedFile as damage:
            _log.warning("%s The search does not know this trial.", damage)
            files.remove(path)


def _read(path: str) -> dict:
    state = files.read_json(path)
    if state is None:
        raise DamagedFile(path, "there is no such file")
    return state
