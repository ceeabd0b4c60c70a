"""800 learning rates: one for each of 100 steps and each of 8 variables of an MLP on MNIST.

All begin at the same rate, and are moved by Adam on the log scale. The picture shows the learned
schedules (the paper's figure 2) and the test error over meta-iterations.

    python examples/rmad/schedules.py
"""

import common
import keras
import numpy as np

from keras_drmad import DrMADSGD, Knots


def main():
    options = common.arguments(
        __doc__,
        "rmad_schedules",
        meta_iterations=20,
        steps=100,
        learning_rate=0.02,
        meta_learning_rate=0.1,
    )
    data = common.mnist(10_000, 10_000)
    meta_optimizers = {}

    def make():
        optimizer = DrMADSGD(
            options.learning_rate,
            momentum=0.9,
            per="variable",
            learn="learning_rate",
            schedule=Knots("step", kinds="learning_rate", steps=options.steps),
        )
        model = common.mlp(optimizer)
        meta_optimizers[model] = keras.optimizers.Adam(options.meta_learning_rate, epsilon=1e-12)
        return model, []

    def move(model, result):
        model.optimizer.move_hyperparameters(result.gradients, meta_optimizers[model])

    models, errors = common.meta_optimize(
        make, move, data, options.meta_iterations, steps=options.steps, batch_size=100
    )

    fig, axes = common.figure(1, 3, figsize=(15, 4.2))
    for ax, (name, model) in zip(axes.flat, models.items(), strict=False):
        for group, values in model.optimizer.hyperparameters.items():
            style = "--" if group.endswith("bias") else "-"
            ax.plot(values["learning_rate"], style, label=group)
        ax.set(title=f"through {name}", xlabel="training step", ylabel="learning rate")
        ax.set_yscale("log")
    common.legend_below(fig, axes[0, 0])
    common.draw_errors(axes[0, 2], errors)
    common.save(fig, options.output)
    a, b = (
        np.concatenate([np.log(v["learning_rate"]) for v in m.optimizer.hyperparameters.values()])
        for m in models.values()
    )
    print(f"correlation of the two paths' 800 log rates: {np.corrcoef(a, b)[0, 1]:.2f}")


if __name__ == "__main__":
    main()
