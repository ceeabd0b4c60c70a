"""What the experiments of the reversible-learning paper share: data, the loop, the two paths.

Maclaurin, Duvenaud and Adams, Gradient-based Hyperparameter Optimization through Reversible Learning
(https://arxiv.org/abs/1502.03492). Each script learns its hyperparameters twice: through training
undone bit for bit (`Reversible`, the paper's method) and through the default, approximate path.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))  # what all examples share

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np

from keras_drmad import hypergradient, paths

PATHS = {"Reversible": paths.Reversible(), "SegmentMeans": paths.SegmentMeans()}


def arguments(description, name, **defaults):
    """Command-line arguments: those of all experiments, with the defaults of this one."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=f"out/{name}.png")
    for argument, value in defaults.items():
        parser.add_argument(f"--{argument.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def mnist(train, hyper):
    """`(training, hyper, test)` sets of flat images; the first two of the given sizes."""
    (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    x, x_test = (a.reshape(-1, 784).astype("float32") / 255 for a in (x, x_test))
    end = train + hyper
    return (x[:train], y[:train]), (x[train:end], y[train:end]), (x_test, y_test)


def mlp(optimizer, **layer_arguments):
    """The paper's network: 784-50-50-50-10."""
    hidden = [
        keras.layers.Dense(50, "tanh", name=f"layer{i}", **layer_arguments) for i in (1, 2, 3)
    ]
    out = keras.layers.Dense(10, name="layer4", **layer_arguments)
    return compiled(keras.Sequential([keras.layers.Input((784,)), *hidden, out]), optimizer)


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    return model


def meta_optimize(make, move, data, meta_iterations, **training):
    """Trains from scratch again and again through both paths, moving hyperparameters in between.

    Args:
        make: `make()` returns a compiled model and the hyper variables to differentiate by.
        move: `move(model, result)` moves the hyperparameters along a `Hypergradient`, and may
            change the weights that the next training starts from.
        data: `(training, hyper, test)` sets.
        meta_iterations: how often.
        **training: arguments of `hypergradient`.

    Returns:
        `({path: model}, {path: test errors after each training})`.
    """
    models, errors = {}, {}
    train, hyper, test = data
    for name, path in PATHS.items():
        keras.utils.set_random_seed(0)
        model, hyper_variables = make()
        models[name], errors[name] = model, []
        start = [(variable, variable.numpy()) for variable in model.trainable_variables]
        print(f"{name}\nmeta-iteration   hyper loss   test error")
        result = None  # of the meta-iteration before
        for iteration in range(meta_iterations + 1):
            if result is not None:
                for variable, value in start:  # trains from scratch
                    variable.assign(value)
                model.optimizer.reset()
                move(model, result)
            result = hypergradient(
                model,
                train,
                hyper,
                path=path,
                hyper_variables=hyper_variables,
                seed=iteration,  # another order of the batches each time
                verbose=0,
                **training,
            )
            scores = model.evaluate(*test, batch_size=1000, verbose=0, return_dict=True)
            errors[name].append(1 - scores["accuracy"])
            print(
                f"{iteration:14} {result.validation_loss:12.4f} {errors[name][-1]:12.2%}",
                flush=True,
            )
    return models, errors


def figure(rows, columns, **arguments):
    """A Matplotlib figure that needs no display, and its axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, layout="constrained", squeeze=False, **arguments)


def legend_below(fig, ax):
    """What the lines of `ax` are, below all panels, where it covers nothing."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)


def draw_errors(ax, errors):
    """Test error over meta-iterations, one line a path."""
    for name, values in errors.items():
        ax.plot(100 * np.array(values), label=name, linestyle="-" if name == "Reversible" else "--")
    ax.set(xlabel="meta-iteration", ylabel="test error (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)  # covers nothing


def save(fig, output):
    output.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(output, dpi=120)
    print(f"Saved {output}")
