"""Patterns of the variables that penalties leave alone."""

import re
import warnings
from collections.abc import Iterable, Sequence

import keras

from keras_drmad.arguments import wrong
from keras_drmad.hyperparameters.groups import path_of


def patterns_of(var_list: Sequence[keras.Variable] | None) -> list[str]:
    """Patterns that match these variables, and no other ones.

    Raises:
        ValueError: something else than a list of variables.
    """
    if var_list is None:
        return []
    if not isinstance(var_list, list | tuple) or not all(
        isinstance(variable, keras.Variable) for variable in var_list
    ):
        raise wrong("var_list", var_list, "a list of variables; names are `var_names`")
    return [f"^{re.escape(path_of(variable))}$" for variable in var_list]


def checked_patterns(var_names: Sequence[str] | None) -> list[str]:
    """The patterns that a user has given.

    Raises:
        ValueError: something else than a list of regular expressions.
    """
    if var_names is None:
        return []
    if not isinstance(var_names, list | tuple) or not all(isinstance(n, str) for n in var_names):
        raise wrong("var_names", var_names, "a list of names, or of regular expressions")
    for pattern in var_names:
        try:
            re.compile(pattern)
        except re.error as error:
            raise wrong("var_names", pattern, f"regular expressions ({error})") from error
    return list(var_names)


def matches(pattern: str, variable: keras.Variable) -> bool:
    """Whether a pattern is found in the path or in the name of a variable."""
    return bool(re.search(pattern, path_of(variable)) or re.search(pattern, variable.name))


def warn_of_idle(patterns: Iterable[str], variables: Sequence[keras.Variable]) -> None:
    """Warns of patterns that match nothing."""
    for pattern in patterns:
        if not any(matches(pattern, variable) for variable in variables):
            warnings.warn(
                f"{pattern!r} is to be excluded from penalties, and matches no variable. There are: "
                f"{', '.join(path_of(variable) for variable in variables)}",
                stacklevel=4,
            )
