"""Keras optimizers whose hyperparameters can be learned.

The step itself is written in `update_rules`.
"""
