"""Examples begin with their own words."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
QUIET = ("quiet", "qan_digits", "common")  # the last two import the first
IMPORT = re.compile("(import|from) ")


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_what_tensorflow_says_is_left_out(path):
    imports = [line.split()[1] for line in path.read_text().splitlines() if IMPORT.match(line)]
    names = [name.partition(".")[0] for name in imports]
    loud = [names.index(name) for name in ("keras", "tensorflow", "keras_drmad") if name in names]
    assert not loud or any(name in QUIET for name in names[: min(loud)])


def run(script, **environment):
    clean = {n: v for n, v in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"} | environment
    clean["PYTHONPATH"] = str(EXAMPLES)
    return subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True)


def test_nothing_is_written_before_an_example_does():
    ended = run("import quiet, keras; keras.ops.ones(3) + 1; print('own words')")
    assert (ended.stdout, ended.stderr) == ("own words\n", "")


def test_what_fails_is_shown(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'said'); raise ImportError('why')"
    )
    ended = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import quiet")
    assert ended.stderr.startswith("said") and "ImportError: why" in ended.stderr
