"""A callback that takes something at every so many steps of `fit`, and keeps a bounded number."""

from typing import Generic, TypeVar

import keras

from keras_drmad.arguments import positive_integer
from keras_drmad.typing import Logs

T = TypeVar("T")


class Snapshots(keras.callbacks.Callback, Generic[T]):
    """Takes something at the beginning of `fit`, at every `every`-th step, and at the end.

    When there would be more than `most`, every second one is dropped, and the spacing is doubled from
    then on. Both ends stay.

    Attributes:
        step: Training steps since `fit` began.
        taken: `[(step, what was taken)]`.
    """

    def __init__(self, every: int, most: int, name: str) -> None:
        super().__init__()
        self.every = positive_integer("every", every)
        self.most = positive_integer(name, most, least=2)  # for both ends
        self.taken: list[tuple[int, T]] = []
        self.step = 0

    def take(self, logs: Logs) -> T:
        """What is to be kept of this moment."""
        raise NotImplementedError

    def drop(self, item: T) -> None:
        """Called with what is no longer kept."""

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if not model.built:
            raise ValueError(
                f"`{type(self).__name__}` needs the weights that training begins with, and the model "
                "has none yet: call it on a batch before `fit`."
            )

    def on_train_begin(self, logs: Logs | None = None) -> None:
        for _, item in self.taken:
            self.drop(item)
        self.taken, self.step = [], 0
        self._spacing, self._of_epoch = self.every, 0
        self._add({})

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._of_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # The last of several steps in one execution counts those, too, for which there are no data.
        done = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        before, self.step = self.step, self.step + done - self._of_epoch
        self._of_epoch = done
        if self.step // self._spacing > before // self._spacing:
            self._add(logs or {})
            if len(self.taken) >= self.most:
                for _, item in self.taken[1::2]:
                    self.drop(item)
                self.taken = self.taken[::2]
                self._spacing *= 2

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.taken[-1][0] != self.step:
            self._add(logs or {})

    def _add(self, logs: Logs) -> None:
        self.taken.append((self.step, self.take(logs)))
