"""Files of a search that cannot be read: which one, what is lost with it, and how to go on."""

import os
import re
import zipfile
import zlib

# What reading a file raises that is not what was written.
DAMAGED = (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)

_ANEW = "Put a copy of it back, or begin anew with `overwrite=True` or another `project_name`."
_KINDS = (  # by name: what is lost, and how to go on
    (r"oracle\.json", "which trials there were, and what was learned from them", _ANEW),
    (r"trial\.json", "what this trial was to train with", _ANEW),
    (
        r"settings\.json",
        "the settings that the search began with, which those of now are compared with",
        "Delete the file, and the search goes on with the settings of now.",
    ),
    (r"state_\d+\.npz", "the hyperparameters of a meta-iteration", _ANEW),
    (r"result\.npz", "the hyperparameters and the hypergradient of this trial", _ANEW),
    (
        r"execution_\d+\.npz",
        "what one training of this trial gave",
        "Delete the file, and it is trained again.",
    ),
    (
        r".*\.weights\.h5",
        "the trained weights of this trial; its hyperparameters are in `result.npz` beside it",
        "Train a model again with `tuner.get_best_optimizer()`, or search again.",
    ),
    (
        r"inputs\.json",
        "how to build a model before its weights are loaded",
        "Delete the file and call `search` again, which writes it, also where nothing is left to train.",
    ),
    (
        r"learner_\d+\.npz",
        "what the agent had learned",
        "Delete the file, and the agent goes on from the one before, or begins anew.",
    ),
    (
        r"\d+\.npz",
        "an episode of the replay buffer",
        "Delete all files `learner_*.npz`, and the agent begins anew; what was searched stays.",
    ),
    (
        r"warm_start\.npz",
        "what the warm start has found",
        "Delete the file and call `search` again, which makes it.",
    ),
)


class DamagedFile(RuntimeError):
    """A file of a search that is not what was written, or is not there.

    Args:
        path: of the file.
        why: what is wrong with it.
    """

    def __init__(self, path: str, why: object) -> None:
        name = os.path.basename(path)
        lost, go_on = "what it held", _ANEW
        for pattern, what, how in _KINDS:
            if re.fullmatch(pattern, name):
                lost, go_on = what, how
                break
        super().__init__(f"{path} is damaged or missing ({why}). Lost with it: {lost}. {go_on}")
