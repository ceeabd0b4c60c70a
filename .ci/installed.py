"""Checks an installed package, in an environment and a folder without the repository.

    python installed.py VERSION [EXTRA …]

Each extra that is named must bring what it promises.
"""

import importlib
import importlib.metadata
import importlib.resources
import pathlib
import sys

BRINGS = {
    "compare": ("matplotlib.pyplot", "scipy.stats"),
    "demo": ("sklearn.datasets", "matplotlib.pyplot"),
    "docs": ("furo", "myst_nb", "sphinx", "sphinx_copybutton", "sphinx_design"),
    "optuna": ("optuna",),
    "plots": ("matplotlib.pyplot", "PIL.Image", "scipy.optimize"),
    "qan": ("gymnasium", "sklearn.cluster", "keras_drmad.tuners.qan.env"),
    "tensorboard": ("tensorboard",),
}


def check(version: str, extras: list[str]) -> None:
    import keras_drmad
    from keras_drmad import tuners

    place = pathlib.Path(keras_drmad.__file__)
    assert place.is_relative_to(sys.prefix), f"{place} is not in this environment"
    assert keras_drmad.__version__ == version == importlib.metadata.version("keras_drmad")
    for package in (keras_drmad, tuners):
        assert (importlib.resources.files(package) / "py.typed").is_file()
        for name in package.__all__:
            assert hasattr(package, name), name
    one_training(keras_drmad)
    for extra in extras:
        for module in BRINGS[extra]:
            importlib.import_module(module)
    print(f"keras_drmad {version} is installed and trains; extras: {', '.join(extras) or 'none'}")


def one_training(keras_drmad) -> None:  # type: ignore[no-untyped-def]
    import keras
    import numpy as np

    x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras_drmad.DrMADSGD(0.05, l2=1e-4)
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    learn = keras_drmad.LearnHyperparameters((x[:16], y[:16]))
    history = model.fit(x[16:], y[16:], epochs=1, verbose=0, callbacks=[learn])
    assert np.isfinite(history.history["hyper_loss"]).all()


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2:])
