"""`DrMADSGD`: momentum SGD with a learning rate, a momentum and an L2 coefficient for every group."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import flag, suggesting
from keras_drmad.hyperparameters.scales import Log, Logit, scale_of
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Tensor
from keras_drmad.update_rules.momentum import Momentum, apply_momentum

MOMENTUM = functools.partial(Logit, floor=1e-2, ceiling=0.9999)
L2 = functools.partial(Log, floor=1e-6, ceiling=1e4)


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class DrMADSGD(LearnableOptimizer):
    r"""Momentum SGD whose learning rates, momenta and L2 coefficients can be learned.

    Update rule, with one α, μ and λ for each group of variables:

        g = ∇L(w) + λ ⊙ w            (then clipped, if asked for)
        v ← μ v − α g
        w ← w + v                    (plain)
        w ← w + μ v − α g            (Nesterov)

    With nothing learned this is `keras.optimizers.SGD` plus L2. The hyperparameters are learned by
    `keras_drmad.LearnHyperparameters` during `fit`, or moved by hand along
    `keras_drmad.hypergradient`. A group's effective learning rate is the global `learning_rate` (a
    number, a schedule, or driven by callbacks, as in Keras) times its learned multiplier.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments. Defaults to `0.01`.
        momentum: Float in `[0, 0.9999]`, the momentum that every group starts with. Defaults to `0.9`.
        nesterov: Whether to apply Nesterov momentum. Defaults to `False`.
        l2: Float ≥ 0, the L2 coefficient that every group starts with. It adds `l2 * w` to the
            gradient (through clipping and momentum), for every trainable variable that is not
            excluded by `exclude_from_l2`. `weight_decay` stays Keras's decoupled one. Learning moves
            it by factors, so begin with a value such as `1e-4` to have it learned.
            Defaults to `0.0`.
        per: What shares one value: `"global"`, `"layer"` (default), `"variable"` or `"unit"`. The
            last one has an L2 coefficient for each input unit of each kernel (its last axis but
            one; biases and other vectors have none), and a learning rate and a momentum for each
            variable.
        learn: Which of `"learning_rate"`, `"momentum"`, `"l2"` may be learned (the default), and
            `"init_scale"`: one factor for each kernel's initial weights, for searches that train
            from scratch (`hypergradient`, `keras_drmad.tuners.DrMADTuner`; see
            `scale_initial_weights`).
        schedule: A `keras_drmad.Knots`, for learning rates and momenta that vary over training.
            Defaults to `None`: they are constant.
        name, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps: as in
            `keras.optimizers.Optimizer`. Gradients of embeddings are summed row by row before they
            are clipped, as with a regularizer; without one, Keras clips repeated rows apart.

    Raises:
        ValueError: A number out of range, an unknown `per` or `learn`, or a flag that is none; also
            where one is assigned later. What is learned is changed by `set_hyperparameters`.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADSGD(learning_rate=0.05, l2=1e-4, learn=()), loss="mse")
    >>> history = model.fit(np.ones((8, 4)), np.ones(8), verbose=0)
    >>> sorted(model.optimizer.hyperparameters["out"])
    ['l2', 'learning_rate', 'momentum']

    References:
        Fu et al., DrMAD, IJCAI 2016 (https://arxiv.org/abs/1601.00917).
    """

    rule = Momentum
    fixed = (*LearnableOptimizer.fixed, "momentum", "l2")

    def __init__(
        self,
        learning_rate: compat.LearningRate | float = 0.01,
        momentum: float = 0.9,
        nesterov: bool = False,
        l2: float = 0.0,
        per: str = "layer",
        learn: str | Sequence[str] = Momentum.kinds,
        schedule: Knots | None = None,
        name: str = "drmad_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            scales={
                "momentum": scale_of("momentum", momentum, MOMENTUM),
                "l2": scale_of("l2", l2, L2),
            },
            per=per,
            learn=learn,
            schedule=schedule,
            name=name,
            **kwargs,
        )
        self.momentum, self.l2, self.nesterov = float(momentum), float(l2), nesterov

    def _checked(self, name: str, value: Any) -> Any:
        return flag(name, value) if name == "nesterov" else super()._checked(name, value)

    def update_rule(self, variables: Sequence[keras.Variable] | None = None) -> Momentum:
        return Momentum(**self._shared_by_rules(variables), nesterov=self.nesterov)

    def exclude_from_l2(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Excludes variables from L2. To be called before the optimizer is built.

        Args:
            var_list: A list of variables.
            var_names: A list of strings (regular expressions). A variable in whose name or path one
                of them is found has no L2: `var_names=["bias"]` leaves out all biases.
        """
        self._exclude("exclude_from_l2", var_list, var_names)

    # -- Keras's extension points ------------------------------------------------------------

    def update_step(
        self, gradient: Tensor, variable: keras.Variable | tf.Variable, learning_rate: Tensor
    ) -> None:
        i = compat.variable_index(self, variable)
        apply_momentum(
            variable,
            self.slots["velocity"][i],
            gradient,
            self._effective_rate(i, learning_rate, variable.dtype),
            self._in_force("momentum", i, variable.dtype),
            self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(momentum=self.momentum, nesterov=self.nesterov, l2=self.l2)
        return config
