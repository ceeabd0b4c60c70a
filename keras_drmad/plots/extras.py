"""Imports of what only the extra `plots` installs."""

import importlib
import types


def load(module: str, extra: str = "plots") -> types.ModuleType:
    """A module of another package.

    Raises:
        ImportError: It is not installed. The error names the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module.partition('.')[0]!r}: `pip install keras_drmad[{extra}]`."
        ) from error
