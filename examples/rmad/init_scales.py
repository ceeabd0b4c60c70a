"""8 scales of initial weights: of each kernel and each bias vector of an MLP on MNIST.

Kernels and biases begin with normally distributed values. The derivative by the logarithm of a
variable's scale is ⟨∂L/∂w_0, w_0⟩, from `initial_weights`, which every hypergradient returns. (For
kernels alone, `DrMADSGD(learn=("init_scale",))` does the same.) The picture shows the scales over
meta-iterations (the paper's figure 3) and the test error.

    python examples/rmad/init_scales.py
"""

import common
import keras
import numpy as np

from keras_drmad import DrMADSGD


def main():
    options = common.arguments(
        __doc__,
        "rmad_init_scales",
        meta_iterations=20,
        steps=100,
        learning_rate=0.02,
        scale=0.3,
        meta_learning_rate=0.1,
    )
    data = common.mnist(10_000, 10_000)
    runs = {}

    def make():
        normal = keras.initializers.RandomNormal(stddev=1.0)
        arguments = {"kernel_initializer": normal, "bias_initializer": normal}
        model = common.mlp(DrMADSGD(options.learning_rate, momentum=0.9, learn=()), **arguments)
        runs[model] = {
            "drawn": model.get_weights(),
            "log_scales": keras.Variable(np.full(8, np.log(options.scale), "float32")),
            "meta_optimizer": keras.optimizers.Adam(options.meta_learning_rate),
            "history": [],
        }
        rescale(model)
        return model, []

    def rescale(model):
        run = runs[model]
        scales = np.exp(run["log_scales"].numpy())
        run["history"].append(scales)
        run["start"] = [s * w for s, w in zip(scales, run["drawn"], strict=True)]
        model.set_weights(run["start"])

    def move(model, result):
        run = runs[model]
        slopes = [
            np.sum(dw * w) for dw, w in zip(result.initial_weights, run["start"], strict=True)
        ]
        run["meta_optimizer"].apply([np.array(slopes, "float32")], [run["log_scales"]])
        rescale(model)

    models, errors = common.meta_optimize(
        make, move, data, options.meta_iterations, steps=options.steps, batch_size=100
    )

    fig, axes = common.figure(1, 3, figsize=(15, 4.2))
    for ax, (name, model) in zip(axes.flat, models.items(), strict=False):
        history = np.array(runs[model]["history"])
        for variable, values in zip(model.trainable_variables, history.T, strict=True):
            style = "--" if variable.name == "bias" else "-"
            ax.plot(values, style, label=variable.path.removeprefix("sequential/"))
        ax.set(title=f"through {name}", xlabel="meta-iteration", ylabel="initial scale")
        ax.set_yscale("log")
    common.legend_below(fig, axes[0, 0])
    common.draw_errors(axes[0, 2], errors)
    common.save(fig, options.output)
    for model in models.values():
        print("learned scales:", np.exp(runs[model]["log_scales"].numpy()).round(3))


if __name__ == "__main__":
    main()
