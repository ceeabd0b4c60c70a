"""`DrMADAdamW` on text: a small transformer that tells what a question asks for.

    python benchmarks/transformer.py learn --data FOLDER [--seeds 3] [--rates 1e-5 1e-4 1e-3 1e-2]
    python benchmarks/transformer.py search --data FOLDER [--seeds 3] [--budget 20]

FOLDER has the TREC questions (Li and Roth 2002), as `TREC.train.all.gz` and `TREC.test.all.gz`: one
a line, its class (0 – 5) and then its words. Of the 5452 training questions 1000, drawn by seed, are the
hyper set; the 500 of the test set judge. The model: word and position embeddings, two blocks of
attention with layer normalization and dropout.

- learn: `LearnHyperparameters` from several learning rates, beside Keras's AdamW at the same ones.
- search: `DrMADTuner` from the geometric middle of the ranges, beside random search over learning rate
  (1e-5 – 1e-2) and weight decay (1e-4 – 1), both log-uniform, at equal cost
  (`keras_drmad.tuners.compare`).
"""

import argparse
import collections
import gzip
import os
import pathlib
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np
from results import Results, shown

from keras_drmad import DrMADAdamW, LearnHyperparameters
from keras_drmad.tuners import DrMADTuner, Method, compare

L = keras.layers
WORDS, LENGTH, WIDTH, HEADS, CLASSES = 3000, 16, 32, 2, 6
RANGES = {"learning_rate": (1e-5, 1e-2), "weight_decay": (1e-4, 1.0)}
MIDDLE = {kind: float(np.sqrt(low * high)) for kind, (low, high) in RANGES.items()}


class Positions(L.Layer):
    """Adds a trained vector to each place of a sequence."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="uniform", name="table")

    def call(self, inputs):
        return inputs + self.table


def transformer(optimizer) -> keras.Model:
    inputs = L.Input((LENGTH,), dtype="int32")
    x = Positions(name="positions")(L.Embedding(WORDS, WIDTH, name="words")(inputs))
    for i in range(2):
        attended = L.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention_{i}")(x, x)
        x = L.LayerNormalization(name=f"norm_{i}a")(x + L.Dropout(0.1)(attended))
        hidden = L.Dense(2 * WIDTH, "relu", name=f"hidden_{i}")(x)
        hidden = L.Dropout(0.1)(L.Dense(WIDTH, name=f"back_{i}")(hidden))
        x = L.LayerNormalization(name=f"norm_{i}b")(x + hidden)
    outputs = L.Dense(CLASSES, name="out")(L.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


class Questions:
    """Training, hyper and test set of a seed; words that are not among the most frequent are 1."""

    def __init__(self, folder: pathlib.Path) -> None:
        train, test = (self._read(folder / f"TREC.{part}.all.gz") for part in ("train", "test"))
        counts = collections.Counter(word for _, words in train for word in words)
        self._numbers = {word: i for i, (word, _) in enumerate(counts.most_common(WORDS - 2), 2)}
        self._train, self._test = self._arrays(train), self._arrays(test)

    def _read(self, path: pathlib.Path) -> list[tuple[int, list[str]]]:
        lines = gzip.decompress(path.read_bytes()).decode("latin-1").splitlines()
        return [(int(kind), words) for kind, *words in map(str.split, lines)]

    def _arrays(self, questions: list[tuple[int, list[str]]]) -> tuple[np.ndarray, np.ndarray]:
        x = np.zeros((len(questions), LENGTH), "int32")
        for row, (_, words) in zip(x, questions, strict=True):
            numbers = [self._numbers.get(word, 1) for word in words[:LENGTH]]
            row[: len(numbers)] = numbers
        return x, np.array([kind for kind, _ in questions])

    def part(self, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if name == "test":
            return self._test
        x, y = self._train
        order = np.random.default_rng(seed).permutation(len(x))
        chosen = order[:1000] if name == "hyper" else order[1000:]
        return x[chosen], y[chosen]


def learn(questions: Questions, options: argparse.Namespace) -> None:
    """Test accuracies, as a table. Each training is a line of `learn.jsonl`, and is trained once."""
    options.folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.folder / "learn.jsonl")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    print("| learning rate | AdamW | learned from there | learning rates then |\n|---|---|---|---|")
    for rate in options.rates:
        rows = [
            [
                results.get(
                    (rate, learned, seed, options.epochs, options.horizon),
                    lambda: train(questions, seed, rate, learned, options),  # noqa: B023
                )
                for seed in seeds
            ]
            for learned in (False, True)
        ]
        theirs, ours = (shown([entry["accuracy"] for entry in row], 1) for row in rows)
        low, high = np.median([entry["rates"] for entry in rows[1]], axis=0)
        print(f"| {rate:g} | {theirs} % | {ours} % | {low:.1e} – {high:.1e} |", flush=True)


def train(
    questions: Questions, seed: int, rate: float, learned: bool, options: argparse.Namespace
) -> dict[str, Any]:
    """`{"accuracy" (%), "rates" (least and largest), "seconds"}` of one training."""
    keras.utils.set_random_seed(seed)
    optimizer = DrMADAdamW(rate) if learned else keras.optimizers.AdamW(rate)
    model, callbacks = transformer(optimizer), []
    if learned:
        hyper = questions.part("hyper", seed)
        callbacks = [LearnHyperparameters(hyper, horizon=options.horizon)]
    begun = time.perf_counter()
    train = questions.part("train", seed)
    model.fit(*train, epochs=options.epochs, batch_size=32, verbose=0, callbacks=callbacks)
    seconds = time.perf_counter() - begun
    rates = [rate]
    if learned:
        rates = [g["learning_rate"] for g in model.optimizer.hyperparameters.values()]
    accuracy = model.evaluate(*questions.part("test", seed), verbose=0)[1]
    return {
        "accuracy": 100 * accuracy,
        "rates": [float(min(rates)), float(max(rates))],
        "seconds": seconds,
    }


def search(questions: Questions, options: argparse.Namespace) -> None:
    def sampled(hp: keras_tuner.HyperParameters) -> keras.Model:
        values = {
            kind: hp.Float(kind, *of, sampling="log", default=MIDDLE[kind])
            for kind, of in RANGES.items()
        }
        return transformer(keras.optimizers.AdamW(**values))

    def learned(hp: keras_tuner.HyperParameters) -> keras.Model:
        return transformer(DrMADAdamW(**MIDDLE))

    result = compare(
        {
            "random search": Method(sampled, keras_tuner.oracles.RandomSearchOracle),
            "DrMADTuner": Method(learned, DrMADTuner),
        },
        train=lambda seed: questions.part("train", seed),
        validation=lambda seed: questions.part("hyper", seed),
        test=lambda seed: questions.part("test", seed),
        budget=options.budget,
        seeds=list(range(options.first_seed, options.first_seed + options.seeds)),
        epochs=options.epochs,
        batch_size=32,
        metric="accuracy",
        directory=str(options.folder),
    )
    result.table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["learn", "search"])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder of the files")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3, 1e-2])
    parser.add_argument("--horizon", type=int, help="steps of a window")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, default="out/transformer")
    options = parser.parse_args()
    questions = Questions(options.data)
    {"learn": learn, "search": search}[options.what](questions, options)


if __name__ == "__main__":
    main()
