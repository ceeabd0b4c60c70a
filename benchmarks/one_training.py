"""One training that learns its hyperparameters: from any start, against what is tuned by hand.

    python benchmarks/one_training.py WHAT [--starts 5] [--seeds 1] [--data FOLDER] [--out FILE]

- tuning: test error over the start rate (1e-5 … 1, 10) on digits, MNIST with 2000 images and, with
  `--data`, questions of TREC (a text classifier): learned; SGD alone and with ReduceLROnPlateau from
  the same start; Keras's Adam, AdamW with cosine decay and ScheduleFreeAdamW; SGD with a one-cycle
  schedule, its peak rate tuned on the hyper set in 20 trainings. `start_rates.py` draws it.
- ablations: the same with the parts left out: judge, guard, samples, path, horizon.
- clarke: Fashion-MNIST as in Clarke et al. (ICLR 2022): random starts of rate, momentum and L2.
- energy, kin8nm: UCI regression as there, from `FOLDER/energy.npz` (`x`, `y` in the file's order).
- cost: time of the callback over that of the training that it watches; compilation.

Every training is a line of `--out` (JSON); those that are there are not trained again, so a run can
be broken off and gone on with. Then tables are printed, mean ± standard error.

Seeds below 100 are for results. Defaults were chosen with seeds from 100 on (`--first-seed 100`).
"""

import argparse
import gzip
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from results import Results, shown
from sklearn.datasets import load_digits

from keras_drmad import DrMADSGD, LearnHyperparameters, paths

layers = keras.layers
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ABLATIONS = {
    "learned": {},
    "last iterate": {"judge": "last"},
    "mean only": {"judge": "mean"},
    "no guard": {"guard": False},
    "timid: Adam(0.03)": {
        "meta_optimizer": keras.optimizers.Adam(0.03, beta_1=0, beta_2=0.9, epsilon=1e-12)
    },
    "all hyper samples": {"samples": 10**9},
    "SegmentMeans": {"path": paths.SegmentMeans()},
    "horizon 40": {"horizon": 40},
    "averages": {"averages": True},
}


# -- tasks -----------------------------------------------------------------------------------


def classifier(inputs, hidden, activation, outputs=10):
    stack = [layers.Dense(units, activation) for units in hidden]
    return keras.Sequential([layers.Input(inputs), *stack, layers.Dense(outputs)])


def split(x, y, seed, training, hyper):
    order = np.random.default_rng(seed).permutation(len(x))
    ends = training, training + hyper
    return [(x[part], y[part]) for part in np.split(order, ends)[:2]]


def digits(seed, options):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    data = (x[:600], y[:600]), (x[600:1000], y[600:1000]), (x[1000:], y[1000:])
    return data, lambda: classifier((64,), (64, 64), "relu"), 30, 20


def mnist(seed, options):
    (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    x, x_test = (a.reshape(-1, 784).astype("float32") / 255 for a in (x, x_test))
    training, hyper = split(x, y, seed, 2000, 2000)
    data = training, hyper, (x_test, y_test)
    return data, lambda: classifier((784,), (50, 50, 50), "tanh"), 50, 20


def trec(seed, options):
    """Six kinds of questions; the mean of learned word vectors, and a hidden layer."""

    def read(name):
        with gzip.open(options.data / name, "rt", encoding="latin-1") as file:
            return zip(*(line.rstrip("\n").split(" ", 1) for line in file), strict=True)

    labels, texts = read("TREC.train.all.gz")
    test_labels, test_texts = read("TREC.test.all.gz")
    vectorize = layers.TextVectorization(5000, output_sequence_length=24)
    vectorize.adapt(list(texts))
    x, x_test = (np.asarray(vectorize(list(t))) for t in (texts, test_texts))
    y, y_test = (np.array(a, "int64") for a in (labels, test_labels))
    training, hyper = split(x, y, seed, 4000, 1452)

    def model():
        stack = [layers.Embedding(5000, 50), layers.GlobalAveragePooling1D()]
        stack += [layers.Dense(50, "relu"), layers.Dense(6)]
        return keras.Sequential([layers.Input((24,), dtype="int64"), *stack])

    return (training, hyper, (x_test, y_test)), model, 50, 10


TASKS = {"digits": digits, "mnist": mnist, "trec": trec}


# -- one training ----------------------------------------------------------------------------


def train(task, seed, optimizer, options, learn=None, callbacks=(), metric="accuracy"):
    """`{"error" (%), "hyper_loss", "loss", "seconds", "taken_back"}` of one training."""
    (training, hyper, test), model, batch_size, epochs = task
    keras.utils.set_random_seed(seed)
    model = model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = epochs * -(-len(training[1]) // batch_size)
    model.compile(optimizer(steps), loss, metrics=["accuracy"])
    # `fit` would build ScheduleFreeAdamW with zeros where it needs the initial weights (Keras 3.15).
    model.optimizer.build(model.trainable_variables)
    callbacks = list(callbacks)
    if learn is not None:
        callbacks.append(LearnHyperparameters(hyper, **learn))
    plateau = any(isinstance(c, keras.callbacks.ReduceLROnPlateau) for c in callbacks)
    begun = time.perf_counter()
    history = model.fit(
        *training,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        validation_data=hyper if plateau else None,
        validation_batch_size=1000,
    ).history
    seconds = time.perf_counter() - begun
    test_loss, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
    return {
        "error": 100 * (1 - accuracy),
        "loss": test_loss,
        "hyper_loss": model.evaluate(*hyper, batch_size=1000, verbose=0)[0],
        "seconds": seconds,
        "taken_back": int(history.get("windows_taken_back", [0])[-1]),
    }


def sgd(rate):
    return lambda steps: DrMADSGD(rate, momentum=0.9, learn=())


def learnable(rate):
    return lambda steps: DrMADSGD(rate, momentum=0.9, l2=1e-4)


def adamw(steps):
    return keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-3, steps))


def one_cycle(peak):
    """Up to the peak in the first third, and down to zero."""

    def make(steps):
        warm = steps // 3
        schedule = keras.optimizers.schedules.CosineDecay(
            peak / 25, steps - warm, warmup_target=peak, warmup_steps=warm
        )
        return DrMADSGD(schedule, momentum=0.9, l2=1e-4, learn=())

    return make


# -- results ---------------------------------------------------------------------------------


def tuning(results, options):
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for name in options.tasks:
        make, rows = TASKS[name], {}
        for seed in seeds:
            task = make(seed, options)

            def run(method, start, optimizer, **more):
                entry = results.get(
                    (name, method, start, seed),  # noqa: B023
                    lambda: train(task, seed, optimizer, options, **more),  # noqa: B023
                )
                rows.setdefault(method, {}).setdefault(start, []).append(entry)  # noqa: B023
                return entry

            for rate in options.rates:
                run("learned", rate, learnable(rate), learn={})
                run("SGD", rate, sgd(rate))
                plateau = keras.callbacks.ReduceLROnPlateau(patience=2)
                run("SGD, ReduceLROnPlateau", rate, sgd(rate), callbacks=[plateau])
            run("Adam", "–", lambda steps: keras.optimizers.Adam())
            run("AdamW, cosine", "–", adamw)
            if hasattr(keras.optimizers, "ScheduleFreeAdamW"):  # of newer versions of Keras
                run("ScheduleFreeAdamW", "–", lambda steps: keras.optimizers.ScheduleFreeAdamW())
            peaks = np.geomspace(1e-3, 1.0, options.ceiling)
            tried = [run(f"one cycle {p:.3g}", "–", one_cycle(p)) for p in peaks]
            best = min(tried, key=lambda entry: entry["hyper_loss"])
            rows.setdefault("SGD, one cycle, tuned", {}).setdefault("–", []).append(best)
        found = {m: r for m, r in rows.items() if not m.startswith("one cycle ")}
        print(f"\n{name}: test error in %, {len(seeds)} seeds\n")
        print("| method | " + " | ".join(f"{r:g}" for r in options.rates) + " | own default |")
        print("|---" * (len(options.rates) + 2) + "|")
        for method, by_start in found.items():
            cells = [by_start.get(start, []) for start in (*options.rates, "–")]
            cells = [shown([e["error"] for e in c]) if c else "" for c in cells]
            print(f"| {method} | " + " | ".join(cells) + " |")


def ablations(results, options):
    for name in options.tasks:
        print(f"\n{name}: test error in %; seconds of a training\n")
        rows = {}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            task = TASKS[name](seed, options)
            for method, learn in ABLATIONS.items():
                for rate in options.rates:
                    entry = results.get(
                        (name, method, rate, seed),
                        lambda: train(task, seed, learnable(rate), options, learn=learn),  # noqa: B023
                    )
                    rows.setdefault(method, {}).setdefault(rate, []).append(entry)
        print("| | " + " | ".join(f"{r:g}" for r in options.rates) + " | s |")
        print("|---" * (len(options.rates) + 2) + "|")
        for method, by_rate in rows.items():
            cells = [shown([e["error"] for e in by_rate[r]]) for r in options.rates]
            seconds = np.median([e["seconds"] for c in by_rate.values() for e in c])
            print(f"| {method} | " + " | ".join(cells) + f" | {seconds:.0f} |")


# -- Clarke et al. ---------------------------------------------------------------------------


def start(number, first_seed):
    random = np.random.default_rng(first_seed + number)
    rate, l2 = 10 ** random.uniform(-6, -1), 10 ** random.uniform(-7, -2)
    return rate, random.uniform(), l2


def clarke(results, options):
    (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    x, x_test = (a.reshape(-1, 784).astype("float32") for a in (x, x_test))
    mean, deviation = x[:50_000].mean(0), x[:50_000].std(0) + 1e-8
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    data = (x[:50_000], y[:50_000]), (x[50_000:], y[50_000:]), (x_test, y_test)
    task = data, lambda: classifier((784,), (50,), "relu"), 50, options.epochs or 10
    losses = []
    for number in range(options.starts):
        rate, momentum, l2 = start(number, options.first_seed)

        def optimizer(steps):
            return DrMADSGD(rate, momentum=momentum, l2=l2, per="global")  # noqa: B023

        entry = results.get(
            ("clarke", number, options.first_seed),
            lambda: train(task, number, optimizer, options, learn={}),  # noqa: B023
        )
        losses.append(entry["loss"])
    summary("Fashion-MNIST, test cross-entropy", losses)


def regression(results, options):
    found = np.load(options.data / f"{options.what}.npz")
    x, y = found["x"], found["y"][:, :1]
    ends = {"energy": (614, 692), "kin8nm": (5898, 7373)}[options.what]
    x = (x - x[: ends[0]].mean(0)) / (x[: ends[0]].std(0) + 1e-8)
    scale = float(y[: ends[0]].std())
    y = (y - y[: ends[0]].mean()) / scale
    parts = [(x[i:j], y[i:j]) for i, j in ((0, ends[0]), ends, (ends[1], len(x)))]
    errors = []
    for number in range(options.starts):
        rate, momentum, l2 = start(number, options.first_seed)

        def measure():
            keras.utils.set_random_seed(number)  # noqa: B023
            model = classifier((x.shape[1],), (50,), "relu", outputs=1)
            optimizer = DrMADSGD(rate, momentum=momentum, l2=l2, per="global")  # noqa: B023
            model.compile(optimizer, "mse")
            learn = LearnHyperparameters(parts[1])
            begun = time.perf_counter()
            epochs = options.epochs or 40  # of 100 full batches: epochs of one take longer to begin
            whole = tf.data.Dataset.from_tensors(parts[0]).repeat(100)
            model.fit(whole, epochs=epochs, verbose=0, callbacks=[learn])
            error = float(model.evaluate(*parts[2], batch_size=4096, verbose=0)) * scale**2
            return {"loss": error, "seconds": time.perf_counter() - begun}

        entry = results.get((options.what, number, options.first_seed), measure)
        errors.append(entry["loss"])
    summary(f"{options.what}, test mean squared error", errors)


def summary(name, values):
    print(f"\n{name}, {len(values)} starts: mean {shown(values, 4)}, ", end="")
    print(f"median {np.median(values):.4g}, best {min(values):.4g}, worst {max(values):.4g}")


# -- cost ------------------------------------------------------------------------------------


class Epochs(keras.callbacks.Callback):
    """When each epoch began, in seconds of the processor: all between them is counted."""

    def on_train_begin(self, logs=None):
        self.begun = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(time.process_time())


def cost(results, options):
    """MNIST's MLP: the callback over the training that it watches."""
    task = mnist(options.first_seed, options)
    found = []
    for learn in (None, {}):
        epochs = Epochs()
        train(task, 0, learnable(0.05), options, learn=learn, callbacks=[epochs])
        found.append(np.diff(epochs.begun))
    alone, learned = found
    print(f"an epoch of 40 steps alone: {np.median(alone[1:]):.3f} s of the processor")
    share = np.median(learned[1:]) / np.median(alone[1:]) - 1
    print(f"callback: {share:.2f} × the training it watches")
    print(f"compilation: {learned[0] - alone[0]:.1f} s of the processor in the first epoch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = {"tuning": tuning, "ablations": ablations, "clarke": clarke, "cost": cost}
    tasks |= {"energy": regression, "kin8nm": regression}
    parser.add_argument("what", choices=list(tasks))
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["digits", "mnist"])
    parser.add_argument("--ceiling", type=int, default=20, help="trainings to tune one cycle in")
    parser.add_argument("--epochs", type=int, help="other than those of the papers")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--out", type=pathlib.Path, default="out/one_training.jsonl")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tasks[options.what](Results(options.out), options)


if __name__ == "__main__":
    main()
