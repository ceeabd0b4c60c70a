"""Every name of KerasTuner that is not public and is used here, with the reason.

`tests/test_compat_keras_tuner.py` fails where a new KerasTuner has lost one of them.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.src.engine.oracle import Display as Display  # which it exports nowhere

# Methods that are overridden, so that they are called on `self` and `super()` in their classes.
OVERRIDDEN = {
    "Oracle._set_project_dir": "the only moment at which an oracle hears where its folder is",
    "Oracle._save_trial": "a trial's file must be the old one or the new one, whenever it is killed",
}

# The name of the variable in a `keras.random.SeedGenerator`, which says nothing else of itself.
SEED_STATE = "seed_generator_state"


# The attribute of a `Callback` that `model` reads, which a copy for another training leaves out.
MODEL_OF_CALLBACK = "_model"


# -- oracles ---------------------------------------------------------------------------------


def set_project_dir(oracle: keras_tuner.Oracle, directory: str, project_name: str) -> None:
    """What a tuner calls on its oracle; an oracle within an oracle has no tuner."""
    oracle._set_project_dir(directory, project_name)


def project_dir(oracle: keras_tuner.Oracle) -> str:
    """The folder of an oracle's files, which a tuner's `project_dir` says of a tuner only."""
    return oracle._project_dir


def write_nothing(oracle: keras_tuner.Oracle) -> None:
    """Makes an oracle keep no files: another one saves its state as a part of its own."""

    def nothing(*_: Any) -> None:
        pass

    vars(oracle).update(save=nothing, _save_trial=nothing)


def set_seed(oracle: keras_tuner.Oracle, seed: int) -> None:
    """Sets the seed, which KerasTuner draws if it is 0, as if there were none."""
    oracle.seed = oracle._seed_state = seed


@contextlib.contextmanager
def locked(oracle: keras_tuner.Oracle) -> Iterator[bool]:
    """Holds KerasTuner's lock of an oracle, which `synchronized` does not release after an error.

    Yields whether this thread did not hold it before.
    """
    from keras_tuner.src.engine import oracle as module

    name = threading.current_thread().name
    if module.THREADS[oracle] == name:
        yield False
        return
    with module.LOCKS[oracle]:
        module.THREADS[oracle] = name  # type: ignore[assignment]  # it is made of None by default
        try:
            yield True
        finally:
            module.THREADS[oracle] = None


def retry_queue(oracle: keras_tuner.Oracle) -> list[str]:
    """The names of trials that are to be handed out again; the list itself.

    Whether all is done, and what goes on after a kill, depends on them.
    """
    return oracle._retry_queue


def set_display(oracle: keras_tuner.Oracle, display: Display) -> None:
    """What an oracle tells of its trials, for which it takes no argument."""
    oracle._display = display


def display_begin(oracle: keras_tuner.Oracle, trial: Trial) -> None:
    """Shows that a trial begins, unless that is shown.

    The display of the end fails for a trial that has begun in another process.
    """
    if trial.trial_id not in oracle._display.trial_start:
        oracle._display.on_trial_begin(trial)


# -- tuners ----------------------------------------------------------------------------------


def build_model(tuner: keras_tuner.Tuner, hp: keras_tuner.HyperParameters) -> keras.Model:
    """The hypermodel's model, under the tuner's distribution strategy."""
    return tuner._build_hypermodel(hp)


def build_first_model(tuner: keras_tuner.Tuner, hp: keras_tuner.HyperParameters) -> keras.Model:
    """As `build_model`, in a new Keras session, once the model is seen not to be too large."""
    return tuner._try_build(hp)


def tuner_file(tuner: keras_tuner.Tuner) -> str:
    """The file by whose presence KerasTuner knows that a search goes on."""
    return tuner._get_tuner_fname()


def configure_tensorboard(
    tuner: keras_tuner.Tuner,
    callbacks: list[keras.callbacks.Callback],
    trial: Trial,
    execution: int,
) -> None:
    """Gives `TensorBoard` callbacks a folder for each training, and HParams of the trial.

    Raises:
        ImportError: The package tensorboard is not installed.
    """
    tuner._configure_tensorboard_dir(callbacks, trial, execution)


# -- chief and workers -----------------------------------------------------------------------
# KerasTuner imports its protocol only where there is a chief, for versions of protobuf may differ;
# so do these functions.


def call_through(client: Any, channel: Any) -> None:
    """Lets an `OracleClient` make its calls through another channel of gRPC.

    Its own has neither options nor credentials, and says nothing of the caller.
    """
    from keras_tuner.src import protos

    client.stub = protos.get_service_grpc().OracleStub(channel)


def serve_oracle(server: Any, oracle: keras_tuner.Oracle) -> None:
    """Lets a server of gRPC answer the calls of `OracleClient`s.

    KerasTuner's own server has neither options, credentials nor interceptors, shares its port with
    others, and looks every 20 s only whether all workers have gone.
    """
    from keras_tuner.src import protos
    from keras_tuner.src.distribute import oracle_chief

    servicer = oracle_chief.OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
