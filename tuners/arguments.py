"""Arguments that both tuners refuse, or warn of, in the same words."""

import warnings
from collections.abc import Iterable

import keras_tuner

# Arguments of `fit` that `search` does not take, and what does the same.
INSTEAD = {
    "class_weight": "Give each sample its class's weight in `sample_weight`.",
    "initial_epoch": "Leave it out: each training begins at its first epoch.",
    "max_queue_size": "Give it to the `PyDataset`.",
    "shuffle": "Leave it out: arrays are shuffled, what comes in batches is read as it comes.",
    "steps_per_epoch": "Cut the training data: `dataset.take(steps)`.",
    "use_multiprocessing": "Give it to the `PyDataset`.",
    "validation_freq": "Leave it out: the model is validated at every decision.",
    "validation_split": "Split the arrays, and pass one part as `validation_data`.",
    "validation_steps": "Cut the validation data: `dataset.take(steps)`.",
    "workers": "Give them to the `PyDataset`.",
}


def refuse(names: Iterable[str]) -> None:
    """Raises a ValueError if there are any arguments of these names, which `search` does not take."""
    names = sorted(names)
    if names:
        fixes = [
            f"`{name}`: {INSTEAD.get(name, '`fit` does not know it either.')}" for name in names
        ]
        raise ValueError(f"`search` does not take these arguments. {' '.join(fixes)}")


def warn_of_fit(hypermodel: object) -> None:
    """Warns of a `HyperModel` with a `fit` of its own, which would be ignored."""
    if not isinstance(hypermodel, keras_tuner.HyperModel):
        return
    kind = type(hypermodel)
    if kind.fit is not keras_tuner.HyperModel.fit:
        warnings.warn(
            f"`fit` of {kind.__name__} is not called: the tuner trains the models itself. Pass what it "
            "gives to `model.fit` to `search`, and do the rest in `build` or in callbacks.",
            UserWarning,
            stacklevel=3,
        )
