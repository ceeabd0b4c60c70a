"""What `keras_drmad.plots.search` draws of each tuner: it does not know them."""

from keras_drmad.plots.search import draw

from .drmad.plots import draw_search as _of_drmad
from .drmad.tuner import DrMADTuner
from .qan.plots import draw_search as _of_qan
from .qan.tuner import QANTuner

draw.register(DrMADTuner, _of_drmad)
draw.register(QANTuner, _of_qan)
