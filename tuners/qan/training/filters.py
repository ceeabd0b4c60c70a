"""States made of a layer's filters: as words of a codebook, or raw, as in the paper."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import of_kind, positive_integer, wrong

from .states import State
from .view import View

LIMIT = 1e6  # of weights


def filters_of(model: Any, layer: str | None = None) -> np.ndarray:
    """(filters, inputs): the kernel of a layer, by its name; of the first that has one by default.

    Raises:
        ValueError: There is no such layer, or it has no kernel.
    """
    layers = [model.get_layer(layer)] if layer is not None else model.layers
    for candidate in layers:
        kernel = getattr(candidate, "kernel", None)
        if kernel is not None:
            # Weights that have diverged: still numbers whose squares are numbers.
            kernel = np.clip(np.nan_to_num(keras.ops.convert_to_numpy(kernel)), -LIMIT, LIMIT)
            return kernel.reshape(-1, kernel.shape[-1]).T
    raise ValueError(
        "`layer` must name a layer of the model that has a kernel. Received: "
        f"layer={layer!r}, of {[x.name for x in model.layers]}"
    )


@keras.saving.register_keras_serializable(package="keras_drmad")
class BagOfFilters(State):
    """Histogram of a layer's filters over the words of a codebook.

    The codebook is found by k-means among the filters, scaled to length 1, of all decisions of the
    warm start; the state is the share of filters nearest to each word, times the number of words.

    Args:
        words: Of the codebook. Defaults to 16.
        layer: The layer's name. Defaults to the first that has a kernel.
        codebook: (words, inputs). Defaults to None: it is made of the warm start, which needs
            scikit-learn (extra `qan`).

    Raises:
        ValueError: A codebook of other words. Before anything is trained: no such layer, or none with a
            kernel, or of other inputs than the codebook's. After the warm start: it had fewer filters
            than words are to be found, of all its decisions.
        ImportError: A codebook is to be made, and there is no scikit-learn.

    References:
        Sivic and Zisserman, Video Google, ICCV 2003 (bags of visual words).

    Example:

    >>> from keras_drmad.tuners.qan.training.view import View
    >>> state = BagOfFilters(2, codebook=[[1.0, 0.0], [0.0, 1.0]])
    >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(4, use_bias=False)])
    >>> model.set_weights([np.array([[1.0, 0.9, 3.0, 0.0], [0.1, 0.0, 2.0, 1.0]])])
    >>> view = View(model, [model.weights], budget=100, start_rate=0.01, every=20)
    >>> view.rates = np.array([0.01])
    >>> state.observe(view).tolist()  # three of four filters are nearer to the first word
    [[1.5, 0.5]]
    """

    def __init__(
        self, words: int = 16, layer: str | None = None, codebook: Sequence | None = None
    ) -> None:
        self.words, self.layer = positive_integer("words", words), _layer(layer)
        self.codebook = None if codebook is None else _numbers("codebook", codebook)
        self.shape = (self.words,)
        if self.codebook is not None and (
            self.codebook.ndim != 2 or len(self.codebook) != self.words
        ):
            raise ValueError(
                f"`codebook` must be of shape (words, inputs), with words={words}. Received: an array "
                f"of {self.codebook.shape}"
            )

    def check(self, model: keras.Model) -> None:
        inputs = filters_of(model, self.layer).shape[1]
        if self.codebook is not None and self.codebook.shape[1] != inputs:
            raise ValueError(
                f"`codebook` must be of shape (words, {inputs}) for filters of {inputs} inputs. "
                f"Received: an array of {self.codebook.shape}"
            )

    def needs_warm_start(self) -> bool:
        return self.codebook is None

    def prepare(self, models: Sequence[Any]) -> None:
        try:
            from sklearn.cluster import KMeans
        except ImportError as error:
            raise ImportError(
                "`BagOfFilters` needs scikit-learn: `pip install keras_drmad[qan]`."
            ) from error
        filters = np.concatenate([_scaled(filters_of(model, self.layer)) for model in models])
        if len(filters) < self.words:
            raise ValueError(
                f"`words` must be at most {len(filters)}, the filters of all decisions of the warm "
                f"start. Received: words={self.words}"
            )
        found = KMeans(self.words, n_init=3, random_state=0).fit(filters)
        self.codebook = found.cluster_centers_.astype("float32")

    def observe(self, view: View) -> np.ndarray:
        if self.codebook is None:
            raise RuntimeError("There is no `codebook` yet: pass one, or call `prepare` before.")
        filters = _scaled(filters_of(view.model, self.layer))
        nearest = (filters @ self.codebook.T - 0.5 * np.sum(self.codebook**2, -1)).argmax(-1)
        counts = np.bincount(nearest, minlength=self.words)
        share = (counts * self.words / len(filters)).astype("float32")
        return np.broadcast_to(share, (len(view.rates), self.words))

    def get_config(self) -> dict[str, Any]:
        codebook = None if self.codebook is None else self.codebook.tolist()
        return {"words": self.words, "layer": self.layer, "codebook": codebook}


@keras.saving.register_keras_serializable(package="keras_drmad")
class RawFilters(State):
    """Weights of some filters, seen by the agent through convolutions of its own.

    Each filter is divided by the root mean square of all; the agent reads them as (inputs, filters) by
    two strided convolutions along the inputs.

    Args:
        inputs: How many inputs a filter has: 784 for a dense layer on MNIST, 3 · 3 · 16 for a
            convolution over 16 channels.
        filters: How many filters, the first ones. Defaults to 8.
        layer: The layer's name. Defaults to the first that has a kernel.

    Raises:
        ValueError: An argument is none of these. Before anything is trained: no such layer, or one of
            other filters.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016.

    Example:

    >>> RawFilters(inputs=784, filters=8).size
    6272
    """

    def __init__(self, inputs: int, filters: int = 8, layer: str | None = None) -> None:
        self.inputs = positive_integer("inputs", inputs)
        self.filters, self.layer = positive_integer("filters", filters), _layer(layer)
        self.shape = (self.inputs, self.filters)

    def check(self, model: keras.Model) -> None:
        self._filters(model)

    def _filters(self, model: keras.Model) -> np.ndarray:
        filters = filters_of(model, self.layer)
        if filters.shape[1] != self.inputs or len(filters) < self.filters:
            raise ValueError(
                f"The layer has {filters.shape[0]} filters of {filters.shape[1]} inputs; "
                f"`RawFilters` was made for {self.filters} of {self.inputs}. Make one for this layer."
            )
        return filters[: self.filters].T

    def observe(self, view: View) -> np.ndarray:
        chosen = self._filters(view.model)
        scaled = chosen / (np.sqrt(np.mean(chosen**2)) + 1e-12)
        return np.broadcast_to(scaled.astype("float32"), (len(view.rates), *self.shape))

    def encode(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        x = tensor
        for number, width in ((16, 8), (16, 4)):
            if x.shape[1] >= width:
                x = keras.layers.Conv1D(number, width, strides=width // 2, activation="relu")(x)
        x = keras.layers.GlobalAveragePooling1D()(x)
        return keras.layers.Dense(16, "relu")(x)

    def get_config(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "filters": self.filters, "layer": self.layer}


def _layer(name: str | None) -> str | None:
    return None if name is None else of_kind("layer", name, str, "the name of a layer")


def _numbers(name: str, values: Sequence) -> np.ndarray:
    try:
        found = np.array(values, "float64")
    except (OverflowError, TypeError, ValueError):  # text, or lists of several lengths
        found = np.full(1, np.nan)
    if not (np.abs(found) <= np.finfo("float32").max).all():
        raise wrong(name, values, "an array of finite numbers")
    return found.astype("float32")


def _scaled(filters: np.ndarray) -> np.ndarray:
    return filters / (np.linalg.norm(filters, axis=-1, keepdims=True) + 1e-12)
