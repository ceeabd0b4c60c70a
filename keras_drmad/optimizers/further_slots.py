"""`FurtherSlots`: what Keras keeps of each weight beside the slots of an optimizer's own step."""

from __future__ import annotations

import keras

from keras_drmad import compat
from keras_drmad.checked_optimizer import CheckedOptimizer
from keras_drmad.update_rules.base import ACCUMULATED, AVERAGES


class FurtherSlots(CheckedOptimizer):
    """Base class: an optimizer that may accumulate gradients, and overwrite weights with averages."""

    @property
    def accumulation(self) -> int:
        """The gradients of so many batches make one step."""
        return self.gradient_accumulation_steps or 1

    @property
    def overwriting(self) -> int | None:
        """After so many steps weights are overwritten with their averages; None for never."""
        return self.ema_overwrite_frequency if self.use_ema else None

    @property
    def further_slots(self) -> tuple[str, ...]:
        """The names of those slots that decide where training leads.

        Averages of weights do if weights are overwritten with them. They are also taken along where
        constraints act, for they are those of weights before that.
        """
        variables = compat.trained_variables(self)
        are_constrained = any(v.constraint is not None for v in variables)
        found = {
            ACCUMULATED: self.accumulation > 1,
            AVERAGES: self.use_ema and (self.overwriting is not None or are_constrained),
        }
        return tuple(name for name, is_kept in found.items() if is_kept)

    def further_variables(self) -> dict[str, list[keras.Variable]]:
        """The `further_slots` of all variables that the optimizer was built with."""
        read = {ACCUMULATED: compat.accumulated_gradients, AVERAGES: compat.averages}
        return {name: read[name](self) for name in self.further_slots}

    def steps_taken(self) -> int:
        """How many training steps (batches) the optimizer has seen."""
        return int(compat.step_counter(self).numpy())

    def is_accumulating(self) -> bool:
        """Whether gradients of the last batches wait for others."""
        return self.accumulation > 1 and self.steps_taken() % self.accumulation != 0
