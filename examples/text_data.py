"""Texts for `fair_text.py`: words, n-grams, and what each n-gram weighs."""

import collections
import gzip
import pathlib
from collections.abc import Iterator

import numpy as np

Lines = list[tuple[str, list[str]]]  # label and words
PAD, UNKNOWN = 0, 1
LONGEST = 3  # words of an n-gram
SMOOTHING = 1.0  # counts that naive Bayes adds


def read(path: pathlib.Path) -> Lines:
    """Lines "label sentence" of a file, gzipped if its name says so."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        lines = [line.lower().split() for line in file]
    return [(label, words) for label, *words in filter(None, lines) if words]


def load_files(
    data: pathlib.Path, validation: pathlib.Path | None, test: pathlib.Path | None
) -> tuple[Lines, Lines, Lines]:
    """Training, validation and test lines: what has no file is a tenth of the data."""
    lines = read(data)
    order = np.random.default_rng(0).permutation(len(lines))
    lines, tenth = [lines[i] for i in order], len(lines) // 10
    tested = read(test) if test else [lines.pop() for _ in range(tenth)]
    validated = read(validation) if validation else [lines.pop() for _ in range(tenth)]
    return lines, validated, tested


def load_newsgroups() -> tuple[Lines, Lines, Lines]:
    """20 newsgroups, without what gives the group away; scikit-learn downloads it once."""
    from sklearn.datasets import fetch_20newsgroups  # as files need no scikit-learn

    parts = []
    for subset in ("train", "test"):
        found = fetch_20newsgroups(subset=subset, remove=("headers", "footers", "quotes"))
        words = ("".join(c if c.isalnum() else " " for c in t.lower()).split() for t in found.data)
        named = zip(map(str, found.target), words, strict=True)
        parts.append([(label, text) for label, text in named if text])
    train, tested = parts
    order = np.random.default_rng(0).permutation(len(train))
    train, tenth = [train[i] for i in order], len(train) // 10
    return train[tenth:], train[:tenth], tested


class Texts:
    """Training, validation and test data as numbers. All that is known is of the training data.

    Args:
        train, validation, test: lines.
        most_words: of a text that are read.
        most_ngrams: the most frequent ones are known.

    Attributes:
        words: (texts, most words) numbers of words; 0 is behind the end, 1 is unknown.
        ngrams: (texts, most n-grams, 2): the number of an n-gram and how often it is there.
        classes, vocabulary: how many there are.
    """

    def __init__(
        self, train: Lines, validation: Lines, test: Lines, most_words: int, most_ngrams: int
    ) -> None:
        lines = [*train, *validation, *test]
        cut = [words[:most_words] for _, words in lines]
        self._bounds = np.cumsum([0, len(train), len(validation), len(test)])
        names = sorted({label for label, _ in lines})
        self.classes = len(names)
        self.labels = np.array([names.index(label) for label, _ in lines], "int32")
        seen = collections.Counter(word for words in cut[: len(train)] for word in words)
        numbers = {word: i + 2 for i, word in enumerate(w for w, n in seen.items() if n > 1)}
        self.vocabulary = len(numbers) + 2
        self.words = _padded([[numbers.get(word, UNKNOWN) for word in words] for words in cut])
        self._count(cut, len(train), most_ngrams)

    def _count(self, texts: list[list[str]], train: int, most: int) -> None:
        # The order of a set, and with it the numbers, would be another one in each process.
        found = collections.Counter(
            gram for words in texts[:train] for gram in dict.fromkeys(_ngrams(words))
        )
        frequent = [gram for gram, _ in found.most_common(most)]
        numbers = {gram: i + 1 for i, gram in enumerate(frequent)}
        bags = [
            collections.Counter(numbers[gram] for gram in _ngrams(words) if gram in numbers)
            for words in texts
        ]
        ids, counts = _padded([[*bag] for bag in bags]), _padded([[*bag.values()] for bag in bags])
        self.ngrams = np.stack([ids, counts], axis=-1)
        self._lengths = np.array([0, *(gram.count(" ") + 1 for gram in frequent)])
        # In how many training texts of each class each n-gram is.
        self._of_classes = np.zeros((len(frequent) + 1, self.classes))
        for row, label in zip(ids[:train], self.labels[:train], strict=True):
            self._of_classes[row[row > 0], label] += 1
        self._train = train

    def weights(self, kind: str, most: int, least: int) -> np.ndarray:
        """What n-grams weigh: 0 if longer than `most` words, or in fewer than `least` texts.

        Args:
            kind: "binary"; "tf-idf"; or "nb", the log-count ratios of naive Bayes for each class
                against the others (Wang and Manning, 2012).
            most: words of an n-gram.
            least: training texts that it is in.
        """
        texts = self._of_classes.sum(axis=1)
        used = (self._lengths >= 1) & (self._lengths <= most) & (texts >= least)
        if kind == "binary":
            weights = np.ones((len(used), 1))
        elif kind == "tf-idf":
            weights = np.log((1 + self._train) / (1 + texts))[:, None] + 1
        else:
            kept = self._of_classes[used] + SMOOTHING
            others = kept.sum(axis=1, keepdims=True) - kept
            weights = np.zeros((len(used), self.classes))
            weights[used] = np.log(kept / kept.sum(axis=0)) - np.log(others / others.sum(axis=0))
        return weights * used[:, None]

    def part(self, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """`(x, y)` of "train", "validation" or "test"; `x` has words and n-grams."""
        index = ("train", "validation", "test").index(name)
        of = slice(self._bounds[index], self._bounds[index + 1])
        return {"ngrams": self.ngrams[of], "words": self.words[of]}, self.labels[of]

    def __str__(self) -> str:
        train, validation, test = np.diff(self._bounds)
        return (
            f"{train} training, {validation} validation and {test} test texts of {self.classes} "
            f"classes; {self.vocabulary} words, {len(self._lengths) - 1} n-grams"
        )


def _ngrams(words: list[str]) -> Iterator[str]:
    for length in range(1, LONGEST + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _padded(rows: list[list[int]]) -> np.ndarray:
    found = np.zeros((len(rows), max(map(len, rows))), "int32")
    for row, numbers in zip(found, rows, strict=True):
        row[: len(numbers)] = numbers
    return found
