"""Linear models that are tuned carefully, beside an LSTM and a transformer: text classification.

The claim of Yogatama and Smith (arXiv 1503.00693), tested: how much of the distance between a new
model and a linear one is a distance in tuning? Each method has the same budget of trainings.

    python examples/fair_text.py                                       # 20 newsgroups (needs network)
    python examples/fair_text.py --data train.txt --test test.txt      # lines "label sentence"; .gz, too
    python examples/fair_text.py --data all.txt --budget 5 10 20 40 --seeds 5

Without `--test`, a tenth of the data is held out for the test. Another tenth
is for validation. Stopped, it goes on when it is started again. `--threads 1` keeps to one core.
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from text_data import Texts, load_files, load_newsgroups

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner, Method, compare

L = keras.layers


class WeightedBag(L.Layer):
    """A linear layer over weighted n-grams: logits are sums of the kernel's rows.

    Args:
        weights: of each n-gram, (n-grams, 1), or of each n-gram and class, (n-grams, classes). N-grams
            of weight 0 are left out.
        classes: how many.
        tf_idf: whether counts matter, and samples have length 1.
        l2: of the kernel.
    """

    def __init__(self, weights: np.ndarray, classes: int, tf_idf: bool, l2: float) -> None:
        super().__init__(name="bag")
        self.scale, self.classes, self.tf_idf = weights.astype("float32"), classes, tf_idf
        self.regularizer = keras.regularizers.L2(l2) if l2 else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (len(self.scale), self.classes)
        self.kernel = self.add_weight(
            shape=shape, initializer="zeros", regularizer=self.regularizer, name="kernel"
        )
        self.bias = self.add_weight(shape=(self.classes,), initializer="zeros", name="bias")

    def call(self, ngrams: tf.Tensor) -> tf.Tensor:
        ids, counts = ngrams[..., 0], keras.ops.cast(ngrams[..., 1], "float32")[..., None]
        weights = keras.ops.take(self.scale, ids, axis=0)
        weights = weights * (keras.ops.log1p(counts) if self.tf_idf else keras.ops.sign(counts))
        if self.tf_idf:
            length = keras.ops.sum(weights**2, axis=1, keepdims=True)
            weights = weights / keras.ops.sqrt(length + 1e-12)
        rows = keras.ops.take(self.kernel, ids, axis=0)
        return keras.ops.sum(weights * rows, axis=1) + self.bias


def compiled(
    layers: list[L.Layer], optimizer: keras.optimizers.Optimizer, jit_compile: bool = False
) -> keras.Model:
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


class Models:
    """The hypermodels, for some texts.

    Args:
        texts: the data.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def linear(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Logistic regression on a bag of n-grams."""
        l2 = hp.Float("l2", 1e-8, 1e-2, sampling="log", default=1e-5)
        rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", default=1e-2)
        return compiled(self._bag(hp, l2), keras.optimizers.Adam(rate))

    def hypergradient_linear(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The same, with an L2 coefficient for each n-gram, which `DrMADTuner` learns.

        Its discrete hyperparameters stay at their defaults: NB weights of unigrams and bigrams.
        """
        optimizer = DrMADSGD(learning_rate=0.3, momentum=0.9, l2=1e-4, per="unit")
        return compiled(self._bag(keras_tuner.HyperParameters(), 0.0), optimizer)

    def _bag(self, hp: keras_tuner.HyperParameters, l2: float) -> list[L.Layer]:
        kind = hp.Choice("weights", ["binary", "tf-idf", "nb"], default="nb")
        most = hp.Choice("ngrams", [1, 2, 3], default=2)
        least = hp.Choice("min_count", [1, 2, 3, 5], default=1)
        weights = self.texts.weights(kind, most, least)
        width = self.texts.ngrams.shape[1]
        bag = WeightedBag(weights, self.texts.classes, kind == "tf-idf", l2)
        return [L.Input((width, 2), dtype="int32"), bag]

    def lstm(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """An LSTM on learned embeddings of words. The defaults are Keras's, and no regularization."""
        units = hp.Choice("units", [32, 64, 128], default=128)
        layer = L.LSTM(units)
        if hp.Boolean("bidirectional"):
            layer = L.Bidirectional(layer)
        layers = [
            *self._embedding(hp, mask_zero=True),
            layer,
            L.Dropout(hp.Float("dropout", 0.0, 0.6, default=0.0)),
            L.Dense(self.texts.classes, kernel_regularizer=self._l2(hp)),
        ]
        return compiled(layers, self._adam(hp))

    def transformer(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """A small transformer encoder, and the mean over its words."""
        width = hp.Choice("embedding", [32, 64, 128], default=64)
        rate = hp.Float("dropout", 0.0, 0.6, default=0.1)
        words = L.Input((self.texts.words.shape[1],), dtype="int32")
        known = keras.ops.cast(words > 0, "float32")[..., None]
        x = L.Embedding(self.texts.vocabulary, width)(words)
        positions = keras.ops.cumsum(keras.ops.ones_like(words), axis=1) - 1
        x = L.Dropout(rate)(x + L.Embedding(words.shape[1], width)(positions))
        pairs = keras.ops.swapaxes(known, 1, 2) > 0
        for _ in range(hp.Int("blocks", 1, 2, default=1)):
            y = L.LayerNormalization()(x)
            heads = hp.Choice("heads", [2, 4], default=2)
            x = x + L.MultiHeadAttention(heads, width // heads, dropout=rate)(
                y, y, attention_mask=pairs
            )
            y = L.Dense(2 * width, "gelu")(L.LayerNormalization()(x))
            x = x + L.Dropout(rate)(L.Dense(width)(y))
        x = L.LayerNormalization()(x) * known
        x = keras.ops.sum(x, axis=1) / (keras.ops.sum(known, axis=1) + 1e-6)
        out = L.Dense(self.texts.classes, kernel_regularizer=self._l2(hp))(x)
        model = keras.Model(words, out)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(self._adam(hp), loss, metrics=["accuracy"], jit_compile=False)
        return model

    def _embedding(self, hp: keras_tuner.HyperParameters, mask_zero: bool) -> list[L.Layer]:
        width = hp.Choice("embedding", [32, 64, 128], default=128)
        words = L.Input((self.texts.words.shape[1],), dtype="int32")
        return [words, L.Embedding(self.texts.vocabulary, width, mask_zero=mask_zero)]

    def _adam(self, hp: keras_tuner.HyperParameters) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(
            hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
        )

    def _l2(self, hp: keras_tuner.HyperParameters) -> keras.regularizers.Regularizer:
        return keras.regularizers.L2(hp.Float("l2", 1e-7, 1e-2, sampling="log", default=1e-7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help='lines "label sentence"')
    parser.add_argument("--test", type=pathlib.Path, help="the same, for the test")
    parser.add_argument("--validation", type=pathlib.Path, help="the same, for validation")
    parser.add_argument("--budget", type=float, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of each training")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--most-words", type=int, default=200, help="of a text that are read")
    parser.add_argument("--most-ngrams", type=int, default=200_000, help="that are known")
    parser.add_argument("--methods", nargs="+", help="only these, by the beginnings of their names")
    parser.add_argument("--threads", type=int, help="of TensorFlow")
    parser.add_argument("--folder", type=pathlib.Path, default="out/fair_text")
    arguments = parser.parse_args()
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)

    if arguments.data:
        parts = load_files(arguments.data, arguments.validation, arguments.test)
    else:
        parts = load_newsgroups()
    texts = Texts(*parts, arguments.most_words, arguments.most_ngrams)
    print(texts)
    models = Models(texts)
    ngrams, words = {"inputs": lambda x: x["ngrams"]}, {"inputs": lambda x: x["words"]}
    methods = {
        "linear, tuned": Method(models.linear, tuner="optuna", **ngrams),
        "linear, L2 by hypergradients": Method(
            models.hypergradient_linear, tuner=DrMADTuner, **ngrams
        ),
        "LSTM, defaults": Method(models.lstm, **words),
        "LSTM, tuned": Method(models.lstm, tuner="optuna", **words),
        "transformer, tuned": Method(models.transformer, tuner="optuna", **words),
    }
    if arguments.methods:
        chosen = tuple(arguments.methods)
        methods = {name: method for name, method in methods.items() if name.startswith(chosen)}
    result = compare(
        methods,
        train=texts.part("train"),
        validation=texts.part("validation"),
        test=texts.part("test"),
        budget=arguments.budget,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        objective="val_accuracy",
        directory=str(arguments.folder),
    )
    result.table()
    result.plot(str(arguments.folder / "comparison.png"))
    result.report(str(arguments.folder / "comparison.html"))
    print(f"\nPicture and report are in {arguments.folder}.")


if __name__ == "__main__":
    main()
