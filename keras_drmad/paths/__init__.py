"""Training paths: where a reverse pass takes the weights of each training step from.

The walk itself is in `engine`.
"""

from keras_drmad.paths.base import End, Path, Point, Segment
from keras_drmad.paths.exact import Checkpointed, Stored
from keras_drmad.paths.linear import Linear
from keras_drmad.paths.reversible import Reversible
from keras_drmad.paths.segment_means import SegmentMeans

__all__ = [
    "Checkpointed",
    "End",
    "Linear",
    "Path",
    "Point",
    "Reversible",
    "Segment",
    "SegmentMeans",
    "Stored",
]
