"""`DrMADAdamW`: AdamW with a learning rate, a weight decay and a β₁ for every group."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import flag, number, suggesting
from keras_drmad.hyperparameters.scales import Log, Logit, scale_of
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Tensor
from keras_drmad.update_rules.adamw import AdamW, adamw_step

BETA_1 = functools.partial(Logit, floor=1e-2, ceiling=0.9999)
WEIGHT_DECAY = functools.partial(Log, floor=1e-4, ceiling=1e3)


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class DrMADAdamW(LearnableOptimizer):
    r"""AdamW whose learning rates and weight decays (and β₁) can be learned.

    Update rule at step t = 1, 2, …, with one α, λ and β₁ for each group of variables:

        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        w ← w − α λ w − α c m / (√v + ε),    c = √(1 − β₂ᵗ) / (1 − β₁ᵗ)

    With nothing learned this is `keras.optimizers.AdamW`, and with `weight_decay=0.0`
    `keras.optimizers.Adam`. The hyperparameters are learned by `keras_drmad.LearnHyperparameters`
    during `fit`, or moved by hand along `keras_drmad.hypergradient`. A group's effective learning rate
    is the global `learning_rate` (a number, a schedule, or driven by callbacks, as in Keras) times its
    learned multiplier; weight decay follows it.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments. Defaults to `0.001`.
        weight_decay: Float ≥ 0, the weight decay that every group starts with, for every trainable
            variable that is not excluded by `exclude_from_weight_decay`. Learning moves it by
            factors, so begin with a value above 0 to have it learned. Defaults to `0.004`.
        beta_1: Float in `[0, 0.9999]`, the decay rate of the first moment that every group starts
            with. Defaults to `0.9`.
        beta_2: Float in `[0, 1)`, the decay rate of the second moment, the same for all groups.
            Defaults to `0.999`.
        epsilon: Float > 0. Defaults to `1e-7`.
        amsgrad: Must be `False`; see below.
        per: What shares one value: `"global"`, `"layer"` (default), `"variable"` or `"unit"`. The
            last one has a weight decay for each input unit of each kernel (its last axis but one;
            biases and other vectors have none), and a learning rate and a β₁ for each variable.
        learn: Which of `"learning_rate"`, `"weight_decay"`, `"beta_1"` may be learned, and
            `"init_scale"`: one factor for each kernel's initial weights, for searches that train from
            scratch (`hypergradient`, `keras_drmad.tuners.DrMADTuner`; see `scale_initial_weights`).
            Defaults to the first two: the hypergradient of β₁ is mostly noise.
        schedule: A `keras_drmad.Knots`, for learning rates and β₁ that vary over training. Defaults to
            `None`: they are constant.
        name, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps: as in `keras.optimizers.AdamW`. Gradients
            of embeddings are summed row by row before they are clipped and squared; Keras squares and
            clips the parts of a row that is used several times in a batch apart.

    Raises:
        ValueError: A hyperparameter out of range, an unknown `per` or `learn`, or `amsgrad=True`: a
            step by the largest second moment so far depends on one past gradient at a time, which no
            distilled path keeps.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADAdamW(learning_rate=0.01, learn=()), loss="mse")
    >>> history = model.fit(np.ones((8, 4)), np.ones(8), verbose=0)
    >>> sorted(model.optimizer.hyperparameters["out"])
    ['beta_1', 'learning_rate', 'weight_decay']

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019
        (https://arxiv.org/abs/1711.05101); Fu et al., DrMAD, IJCAI 2016
        (https://arxiv.org/abs/1601.00917).
    """

    rule = AdamW
    fixed = (*LearnableOptimizer.fixed, "weight_decay", "beta_1")

    def __init__(
        self,
        learning_rate: compat.LearningRate | float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        per: str = "layer",
        learn: str | Sequence[str] = ("learning_rate", "weight_decay"),
        schedule: Knots | None = None,
        name: str = "drmad_adamw",
        **kwargs: Any,
    ) -> None:
        self._checked("amsgrad", amsgrad)
        super().__init__(
            learning_rate,
            scales={
                "weight_decay": scale_of("weight_decay", weight_decay, WEIGHT_DECAY),
                "beta_1": scale_of("beta_1", beta_1, BETA_1),
            },
            per=per,
            learn=learn,
            schedule=schedule,
            name=name,
            weight_decay=float(weight_decay),
            **kwargs,
        )
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), beta_2, epsilon
        # Not by Keras: each group has its own decay, and the step has it in its formula.
        super().exclude_from_weight_decay(var_names=[".*"])

    def _checked(self, name: str, value: Any) -> Any:
        if name == "beta_2":
            return number(name, value, least=0.0, most=1 - 1e-7)
        if name == "epsilon":
            return number(name, value, above=0.0)
        if name == "amsgrad" and flag(name, value):
            raise ValueError(
                "`amsgrad` must be False: a step by the largest second moment so far depends on one "
                f"past gradient at a time, which no distilled path keeps. Received: amsgrad={value!r}"
            )
        return super()._checked(name, value)

    def update_rule(self, variables: Sequence[keras.Variable] | None = None) -> AdamW:
        return AdamW(**self._shared_by_rules(variables), beta_2=self.beta_2, epsilon=self.epsilon)

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Excludes variables from weight decay. To be called before the optimizer is built.

        Args:
            var_list: A list of variables.
            var_names: A list of strings (regular expressions). A variable in whose name or path one
                of them is found has no weight decay: `var_names=["bias"]` leaves out all biases.
        """
        self._exclude("exclude_from_weight_decay", var_list, var_names)

    # -- Keras's extension points ------------------------------------------------------------

    def update_step(
        self, gradient: Tensor, variable: keras.Variable | tf.Variable, learning_rate: Tensor
    ) -> None:
        i, dtype = compat.variable_index(self, variable), variable.dtype
        adamw_step(
            variable,
            self.slots["momentum"][i],
            self.slots["velocity"][i],
            tf.cast(gradient, dtype),
            self._effective_rate(i, learning_rate, dtype),
            self._in_force("weight_decay", i, dtype),
            self._in_force("beta_1", i, dtype),
            self.beta_2,
            self.epsilon,
            self._now.iteration,
            add=self._in_place,
        )

    def _in_place(
        self, variable: keras.Variable | tf.Variable, by: Tensor
    ) -> keras.Variable | tf.Variable:
        self.assign_add(variable, by)
        return variable

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon, amsgrad=False)
        return config
