"""What a chief leaves behind when it ends, for workers that it does not know."""

import contextlib
import logging
import os
import uuid
from typing import Any

import keras_tuner

from ..storage import files

_log = logging.getLogger("keras_drmad")

OLD_SECONDS = 300.0


class LastWord:
    """A file that says that the chief has ended, and of which error.

    A chief tells the workers that have asked it; those that ask later find nobody. What was there when
    a worker began is of an earlier chief, which may be about to be started again: it counts after
    `OLD_SECONDS`.

    Args:
        path: in the project's folder.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_said = False
        self.forget()

    # -- of a chief --------------------------------------------------------------------------

    def take_back(self) -> None:
        """The search goes on."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)

    def say(self, error: Exception | None = None) -> None:
        """The chief ends."""
        why = None if error is None else f"{type(error).__name__}: {error}"
        files.attempt(files.write_json, self._path, {"chief": uuid.uuid4().hex, "error": why})

    # -- of a worker -------------------------------------------------------------------------

    def forget(self) -> None:
        """What is there is old from now on."""
        self._old: Any = files.read_json(self._path)

    def ends(self, waited: float) -> bool:
        """Whether a worker that has found nobody for so many seconds need not wait any more.

        Raises:
            FatalRuntimeError: The chief has ended with an error.
        """
        word = files.read_json(self._path)
        if word is None:
            return False
        if word == self._old and waited < OLD_SECONDS:
            if not self._is_said:
                self._is_said = True
                _log.warning(
                    "The last chief of this search has ended%s. Another one is waited for, for %g "
                    "minutes.",
                    f" with an error ({word['error']})" if word["error"] else "",
                    OLD_SECONDS / 60,
                )
            return False
        if word["error"] is None:
            return True
        raise keras_tuner.errors.FatalRuntimeError(
            f"The chief of this search has ended with an error:\n{word['error']}\nMend what it says, "
            "and start the chief and its workers again: the search goes on."
        )
