"""What one training of a trial gives; kept in a file until all of the trial have been taken."""

from dataclasses import dataclass, field

from keras_drmad.typing import Arrays, Logs

from ..storage import files

FLAGS = ("finite", "growth", "hyper_loss")


@dataclass
class Outcome:
    """What a training gave; dictionaries hold arrays by the names of `Learned.values`."""

    logs: Logs  # of the last epoch
    values: Arrays  # that it was trained with or, where it learned, that it has found
    gradients: Arrays
    finite: bool
    growth: float
    hyper_loss: float
    cost: Logs  # by unit
    # `{epoch: objective}`, if it was reported.
    curve: dict[int, float] = field(default_factory=dict)

    def write(self, path: str, source: str) -> None:
        """Writes the file, all or nothing; `source` tells of what training it is."""
        files.write_arrays(
            path,
            logs=self.logs,
            values=self.values,
            gradients=self.gradients,
            cost=self.cost,
            training={name: getattr(self, name) for name in FLAGS} | {"source": source},
            curve={str(epoch): value for epoch, value in self.curve.items()},
        )

    @classmethod
    def read(cls, path: str, source: str) -> "Outcome | None":
        """Reads the file; None if it is not there, damaged, or of another training."""
        groups = files.read_if_whole(path)
        if groups is None or str(groups["training"]["source"]) != source:
            return None
        return cls(
            # Scalars of the same type as before, for means that are the same in all bits.
            logs={name: value.flat[0] for name, value in groups["logs"].items()},
            values=groups["values"],
            gradients=groups.get("gradients", {}),
            finite=bool(groups["training"]["finite"]),
            growth=float(groups["training"]["growth"]),
            hyper_loss=float(groups["training"]["hyper_loss"]),
            cost={unit: float(value[()]) for unit, value in groups["cost"].items()},
            curve={int(epoch): float(value) for epoch, value in groups.get("curve", {}).items()},
        )
