"""Learning during `fit`: the callback, what it records, and what it takes back.

How a window is differentiated is the engine's (`keras_drmad.engine`).
"""
