"""What is raised where a search cannot go on in this process."""

import keras_tuner


class SearchIsOver(keras_tuner.errors.FatalError):  # which no trial takes for its own failure
    """The chief has ended with the last worker that it knew, and will not come back."""
