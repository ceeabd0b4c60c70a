"""The data and the linear model of `examples/fair_text.py`."""

import gzip
import importlib
import pathlib
import types

import keras_tuner
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
TRAIN = [("b", ["good", "film"]), ("a", ["bad", "film"]), ("b", ["good", "good"])]
OTHER = [("a", ["unknown", "film"])]


@pytest.fixture
def example(monkeypatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("fair_text")


@pytest.fixture
def texts(example):
    return example.Texts(TRAIN, OTHER, OTHER, most_words=5, most_ngrams=100)


def test_texts_are_numbers(texts):
    (x, y), (x_other, _) = texts.part("train"), texts.part("test")
    assert y.tolist() == [1, 0, 1] and texts.classes == 2
    words = x["words"]
    assert words[0, 0] == words[2, 0] == words[2, 1] > 1  # good
    assert words[1, 0] == 1  # bad is there once, as if unknown
    assert x_other["words"][0].tolist() == [1, words[0, 1]]
    assert x["ngrams"][2].tolist()[0][1] == 2  # good, twice
    assert (x_other["ngrams"][0, :, 1] > 0).sum() == 1  # film


def test_weights_leave_out_what_is_rare_or_long(texts):
    assert (texts.weights("binary", 1, 1) > 0).sum() == 3
    assert (texts.weights("binary", 1, 2) > 0).sum() == 2
    assert (texts.weights("binary", 2, 1) > 0).sum() == 6
    assert texts.weights("binary", 3, 1)[0] == 0  # the padding


def test_naive_bayes_weights_are_log_count_ratios(texts):
    """Of Wang and Manning: good is in 2 texts of class b and in none of a."""
    good = texts.part("train")[0]["ngrams"][2, 0, 0]
    counts = np.array([[0, 2], [1, 1], [1, 0]]) + 1.0  # good, film, bad
    a, b = counts.sum(axis=0)
    found = texts.weights("nb", 1, 1)[good]
    assert found[1] == pytest.approx(np.log((3 / b) / (1 / a)))
    assert found[0] == pytest.approx(-found[1])


@pytest.mark.parametrize("kind", ["binary", "tf-idf", "nb"])
def test_the_linear_model_is_one_of_the_whole_bag(example, texts, kind):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("weights", kind)
    model = example.Models(texts).linear(hp)
    kernel = np.random.default_rng(0).normal(size=model.layers[-1].kernel.shape)
    model.layers[-1].kernel.assign(kernel)
    x = texts.part("train")[0]["ngrams"]
    bag = np.zeros((len(x), len(kernel)))
    for row, gram in zip(bag, x, strict=True):
        for number, count in gram:
            row[number] += count
    bag = np.log1p(bag) if kind == "tf-idf" else np.sign(bag)
    weighted = bag[..., None] * texts.weights(kind, 2, 1)
    if kind == "tf-idf":
        weighted = weighted / np.sqrt((weighted**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model(x), (weighted * kernel).sum(axis=1), atol=1e-5)


def test_files_may_be_gzipped(example, tmp_path):
    lines = "".join(f"{i % 2} Word{i} and more\n" for i in range(40)) + "\n1\n"
    (tmp_path / "plain.txt").write_text(lines)
    with gzip.open(tmp_path / "packed.gz", "wt") as file:
        file.write(lines)
    plain = example.load_files(tmp_path / "plain.txt", None, None)
    assert plain == example.load_files(tmp_path / "packed.gz", None, None)
    assert list(map(len, plain)) == [32, 4, 4]
    assert {label for label, _ in plain[0]} == {"0", "1"}
    given = example.load_files(tmp_path / "plain.txt", tmp_path / "packed.gz", None)
    assert list(map(len, given)) == [36, 40, 4]
