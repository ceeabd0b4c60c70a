"""Layers, models, an optimizer and data that do what rows of `docs/reference/support.md` speak of."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD

# -- what keeps, draws or changes something -------------------------------------------------


class CountsByHand(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = tf.Variable(0.0, trainable=False)

    def call(self, x: Any) -> Any:
        self.count.assign_add(1.0)
        return x


class ReadsByHand(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shift = tf.Variable(0.5, trainable=False)

    def call(self, x: Any) -> Any:
        return x + self.shift


class Counts(layers.Layer):
    """Keeps its state as Keras wants it: a variable that is added to the layer."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x: Any) -> Any:
        self.count.assign(self.count + 1.0)
        return x


class DrawsByHand(layers.Layer):
    def call(self, x: Any) -> Any:
        return x + 0.1 * tf.random.normal(tf.shape(x))


class DrawsByGenerator(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, x: Any) -> Any:
        return x + 0.1 * self.generator.normal(tf.shape(x))


class DrawsByKeras(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x + 0.1 * keras.random.normal(keras.ops.shape(x), dtype=x.dtype) if training else x


class AsksPython(layers.Layer):
    def call(self, x: Any) -> Any:
        noise = tf.numpy_function(lambda: np.float32(np.random.rand()), [], tf.float32)
        return x + tf.ensure_shape(tf.stop_gradient(noise), ())


class AssignsWhenCalled(layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x: Any) -> Any:
        self.scale.assign(self.scale * 0.9)
        return x * self.scale


class Idle(layers.Layer):
    """Has a weight that no loss reads."""

    def build(self, shape: Any) -> None:
        self.idle = self.add_weight(shape=(3,), initializer="ones", name="idle")

    def call(self, x: Any) -> Any:
        return x


class Squares(layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


# -- models and an optimizer with steps of their own ----------------------------------------


class AsKeras(keras.Sequential):
    """A `train_step` of its own that trains as Keras's."""

    factor = 1

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.factor * self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class Otherwise(AsKeras):
    """Trains on twice the loss that it is compiled with."""

    factor = 2


class OwnLoss(keras.Sequential):
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: Any = True,
    ) -> Any:
        return keras.ops.mean(self.losses_of(y, y_pred))

    def losses_of(self, y: Any, y_pred: Any) -> Any:
        return keras.ops.logsumexp((y - y_pred) ** 2, axis=-1)


class Detaches(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * keras.ops.stop_gradient(x)


class DetachesInside(layers.Layer):
    def build(self, shape: Any) -> None:
        self.square = tf.function(lambda x: x * keras.ops.stop_gradient(x), autograph=False)

    def call(self, x: Any) -> Any:
        return self.square(x)


@tf.custom_gradient
def reversed_gradient(x: Any) -> Any:
    return tf.identity(x), lambda upstream: -upstream


class Reverses(layers.Layer):
    def call(self, x: Any) -> Any:
        return reversed_gradient(x)


class Untold(keras.Model):
    """Its `call` has no `training`, so that its layers are not told of it either."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.last = layers.Dropout(0.5), layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(self.drop(x))


class UntoldByKeywords(Untold):
    def call(self, x: Any, **kwargs: Any) -> Any:
        return self.last(self.drop(x))


class Distils(OwnLoss):
    """Its predictions are targets of others."""

    def losses_of(self, y: Any, y_pred: Any) -> Any:
        logits = keras.ops.concatenate([y_pred, y], -1)
        targets = keras.ops.softmax(logits[::-1])
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)


class StepsTwice(DrMADSGD):
    """Steps in another way than the class that it is derived from."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, 2 * learning_rate)


class Noam(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return 0.05 * (keras.ops.cast(step, "float32") + 1) ** -0.5

    def get_config(self) -> dict[str, Any]:
        return {}


# -- data -----------------------------------------------------------------------------------

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 6)).astype("float32")
Y = rng.normal(size=(24, 1)).astype("float32")
TRAIN, HYPER = (X[:16], Y[:16]), (X[16:], Y[16:])


class Indexed(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> Any:
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


class Padded(keras.utils.PyDataset):
    """Each batch is as long as its longest sample."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        g = np.random.default_rng(i)
        x, y = g.normal(size=(4, i + 1, 2)), g.normal(size=(4, 1))
        return x.astype("float32"), y.astype("float32")


def generated() -> Iterator[Any]:
    for i in range(4):
        yield X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def endless() -> Iterator[Any]:
    while True:
        yield from generated()


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(TRAIN).batch(8)
