"""What is remembered of a training run, for the way back."""

from dataclasses import dataclass, field

from keras_drmad.engine.programs import State


@dataclass
class Trajectory:
    """A training run as its path remembers it; made by `Engine.begin`, grown by `advance`."""

    start: State
    hyper: dict  # flat values of each kind
    eta: list
    batches: object
    random: list  # the seeds that each step saw
    constants: object  # of the path's arithmetic
    momenta: tuple
    first: int  # the number that the optimizer gives to the first step
    segments: list  # planned; cut off by `Engine.finish` where training ended early
    carry: dict  # of the training loop, at the last step taken
    rates: list = field(default_factory=list)  # the global learning rate of each step
    losses: list = field(default_factory=list)  # and its training loss
    cuts: list = field(default_factory=list)  # step numbers at which `advance` began
    kept: list = field(default_factory=list)  # what the path keeps of each segment
    closed: list = field(default_factory=list)  # and what its arithmetic sets aside
    rows: dict = field(default_factory=dict)  # steps of a piece -> what the path stored of them
    checkpoints: dict = field(default_factory=dict)  # segment's start -> the loop's carry there
    end: State | None = None

    @property
    def steps(self):
        """Steps taken so far."""
        return len(self.rates)

    def forget(self):
        """Drops what only a reverse pass would need; the run can still be advanced."""
        self.rows.clear()
        self.checkpoints.clear()
