"""Training steps as pure functions, each written once.

No Keras optimizer and no loss is here.
"""
