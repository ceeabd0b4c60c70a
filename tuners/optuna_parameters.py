"""KerasTuner's hyperparameters as Optuna's parameters, and their values back."""

import decimal
from typing import TypeAlias, cast

import keras_tuner
import optuna
from keras_tuner.engine import hyperparameters as kinds
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

Value: TypeAlias = bool | int | float | str
Distribution: TypeAlias = CategoricalDistribution | FloatDistribution | IntDistribution


class Parameter:
    """A parameter whose values are those of the hyperparameter.

    Args:
        hyperparameter: Of KerasTuner.
        distribution: Where Optuna draws from.
    """

    def __init__(self, hyperparameter: kinds.HyperParameter, distribution: Distribution):
        self.hyperparameter = hyperparameter
        self.name = name_of(hyperparameter)
        self.distribution = distribution

    def suggest(self, trial: optuna.Trial) -> Value:
        """The hyperparameter's value that a sampler proposes."""
        of, name = self.distribution, self.name
        if isinstance(of, CategoricalDistribution):
            # Those of KerasTuner are never None.
            return self.decode(cast(Value, trial.suggest_categorical(name, of.choices)))
        if isinstance(of, IntDistribution):
            return self.decode(trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log))
        return self.decode(trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log))

    def decode(self, drawn: Value) -> Value:
        """The hyperparameter's value for the parameter's."""
        return drawn

    def encode(self, value: Value) -> Value:
        """The parameter's value for the hyperparameter's.

        The nearest that the distribution has: messages between chief and workers round floats.

        Raises:
            ValueError, TypeError: The hyperparameter cannot have that value.
        """
        of = self.distribution
        if isinstance(of, CategoricalDistribution):
            if value not in of.choices:
                raise ValueError(f"{self.name}={value!r} is none of {of.choices}.")
            return value
        return self._nearest(min(max(float(value), of.low), of.high))

    def _nearest(self, value: float) -> int | float:
        """The nearest step, if there are steps; as KerasTuner computes it, to the last bit."""
        of = self.distribution
        if isinstance(of, CategoricalDistribution) or of.step is None:
            return value
        return of.low + round((value - of.low) / of.step) * of.step


class _Index(Parameter):
    """A parameter that is the place in a list of values, as Optuna has ordered ones for numbers only."""

    def __init__(self, hyperparameter: kinds.HyperParameter, values: list[Value]):
        super().__init__(hyperparameter, IntDistribution(0, len(values) - 1))
        self.values = values

    def decode(self, drawn: Value) -> Value:
        return self.values[int(drawn)]

    def encode(self, value: Value) -> Value:
        if value in self.values:
            return self.values.index(value)
        return min(range(len(self.values)), key=lambda i: abs(float(self.values[i]) - float(value)))


class _Steps(Parameter):
    """A float with steps, whose values Optuna rounds in another way."""

    def __init__(self, hyperparameter: kinds.Float):
        low, high, step = (
            float(x)
            for x in (hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step)
        )
        # The last step in exact numbers: Optuna warns where a range is not made of whole steps.
        last = decimal.Decimal(str(low)) + int((high - low) // step) * decimal.Decimal(str(step))
        super().__init__(hyperparameter, FloatDistribution(low, float(last), step=step))

    def decode(self, drawn: Value) -> Value:
        return self._nearest(float(drawn))


class _Mirrored(Parameter):
    """`sampling="reverse_log"`: the distance to the other end of the range is logarithmic."""

    def __init__(self, hyperparameter: kinds.Int | kinds.Float, distribution: Distribution):
        super().__init__(hyperparameter, distribution)
        self.low, self.high = hyperparameter.min_value, hyperparameter.max_value

    def decode(self, drawn: Value) -> Value:
        # Rounding must not lead out of the range.
        return min(max(self.low + self.high - cast(float, drawn), self.low), self.high)

    def encode(self, value: Value) -> Value:
        return super().encode(self.decode(value))


def name_of(hyperparameter: kinds.HyperParameter) -> str:
    """The name in Optuna: KerasTuner may have one name in several conditional scopes."""
    conditions = [f"{c.name}={','.join(map(str, c.values))}" for c in hyperparameter.conditions]
    return hyperparameter.name + (f" ({'; '.join(conditions)})" if conditions else "")


def parameter(hyperparameter: kinds.HyperParameter, plain: bool = False) -> Parameter | None:
    """The parameter of a hyperparameter; None for one that has a single, fixed value.

    Args:
        hyperparameter: of KerasTuner.
        plain: whether its values are the parameter's, which costs the order of a list and the scale
            `"reverse_log"`. A user who tells a sampler values, as a grid, means those.

    Raises:
        ValueError: It is none of KerasTuner's kinds.
    """
    hp = hyperparameter
    if isinstance(hp, kinds.Fixed):
        return None
    if isinstance(hp, kinds.Boolean):
        return Parameter(hp, CategoricalDistribution([False, True]))
    if isinstance(hp, kinds.Choice):
        if hp.ordered and not plain:
            return _Index(hp, list(hp.values))
        return Parameter(hp, CategoricalDistribution(hp.values))
    if not isinstance(hp, (kinds.Int, kinds.Float)):
        raise ValueError(
            f"`OptunaOracle` knows `Boolean`, `Choice`, `Fixed`, `Float` and `Int`. Received: {hp!r}"
        )
    if hp.step is not None and hp.sampling != "linear":  # multiplied, which Optuna has not
        values = list(hp.values)
        if plain:
            return Parameter(hp, CategoricalDistribution(values))
        return _Index(hp, [int(v) for v in values] if isinstance(hp, kinds.Int) else values)
    kind = Parameter if plain or hp.sampling != "reverse_log" else _Mirrored
    log = hp.sampling != "linear"
    if isinstance(hp, kinds.Int):
        step = hp.step or 1
        high = hp.min_value + (hp.max_value - hp.min_value) // step * step
        return kind(hp, IntDistribution(hp.min_value, high, log=log, step=step))
    if hp.step is not None:
        return _Steps(hp)
    return kind(hp, FloatDistribution(hp.min_value, hp.max_value, log=log))


def suggest(
    trial: optuna.Trial, space: keras_tuner.HyperParameters, plain: bool = False
) -> dict[str, Value]:
    """A value for each active hyperparameter; those of closed scopes are not asked for."""
    chosen = space.copy()
    chosen.values = {}
    # Spaces from workers do not keep the order: a child may stand before its parent.
    while new := [
        hp for hp in chosen.space if hp.name not in chosen.values and chosen.is_active(hp)
    ]:
        for hp in new:
            if hp.name not in chosen.values:
                asked = parameter(hp, plain)
                chosen.values[hp.name] = asked.suggest(trial) if asked else hp.default
    return chosen.values
