"""DrMAD in KerasTuner: trials are meta-iterations.

Hypergradients are not computed here (`keras_drmad.engine`), nor is it said how processes work
together (`distributed`).
"""
