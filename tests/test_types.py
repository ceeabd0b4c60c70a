"""A user's type checker sees types: nothing that is public is `Any`."""

import ast
import collections
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

import keras_drmad
from keras_drmad import paths, plots, tuners
from keras_drmad.tuners import qan
from keras_drmad.tuners.qan import plots as qan_plots

ROOT = pathlib.Path(__file__).parent.parent
MODULES = (keras_drmad, paths, plots, tuners, qan, qan_plots)
# Tensors, or structures of them: TensorFlow gives no type to them that checkers could use.
TENSORS = {"DrMADAdamW.init_scales", "DrMADSGD.init_scales", "Knots.position"}
TENSORS |= {
    f"{path}.{hook}"
    for path in paths.__all__
    for hook in ("accumulate", "begin", "segment_data", "step_record", "summarize")
}


def members(cls):
    """Public methods, properties and attributes that are ours, not inherited of another library."""
    found = set()
    for of in inspect.getmro(cls):
        if not of.__module__.startswith("keras_drmad"):
            continue
        found |= vars(of).keys() | vars(of).get("__annotations__", {}).keys()
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(of)))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return sorted(name for name in found if not name.startswith("_"))


def script():
    """`[(line, the name that it is about)]` of a script that asks for all types."""
    lines = [(f"import {module.__name__}", "") for module in MODULES]
    for module in MODULES:
        for name in module.__all__:
            public, full = getattr(module, name), f"{module.__name__}.{name}"
            if inspect.ismodule(public):
                continue
            lines.append((f"reveal_type({full})", name))
            if inspect.isclass(public):
                lines.append((f"def of_{len(lines)}(it: {full}) -> None:", ""))
                lines += [(f"    reveal_type(it.{m})", f"{name}.{m}") for m in members(public)]
                lines.append(("    it.no_such_name", name))  # is there, if the class is `Any`
    return lines


def install(folder):
    """Links to the packages, laid out as a wheel is: `tuners` within `keras_drmad`."""
    package = folder / "keras_drmad"
    package.mkdir()
    for path in (ROOT / "keras_drmad").iterdir():
        (package / path.name).symlink_to(path)
    (package / "tuners").unlink(missing_ok=True)  # a build may have put a copy there
    (package / "tuners").symlink_to(ROOT / "tuners")


def is_any(shown):
    """Whether a type, or what a function returns, may be anything; not what is within brackets."""
    inner = None
    while inner != shown:
        inner, shown = shown, re.sub(r"\([^()]*\)|\[[^][]*\]", "", shown)
    return re.search(r"\bAny\b", shown)


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """`{file: [(line, level, text)]}` of one run over the script and all that uses the package."""
    folder = tmp_path_factory.mktemp("user")
    install(folder)
    user = folder / "users_script.py"
    user.write_text("\n".join(line for line, _ in script()))
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    shutil.copytree(ROOT / "examples", folder / "examples")
    files = [user, *sorted(folder.glob("*/*.py"))]
    files = [file for file in files if file.parent.name != "keras_drmad"]
    # With the cache of `make lint`, which knows TensorFlow and Keras already.
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-pretty"]
    result = subprocess.run(
        [*command, *map(str, files)],
        cwd=ROOT,
        env=os.environ
        | {"MYPYPATH": ":".join(str(folder / name) for name in ("", "benchmarks", "examples"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not result.stderr
    found = collections.defaultdict(list)
    for message in result.stdout.splitlines()[:-1]:
        path, number, level, text = re.match(r"(.*?):(\d+): (\w+): (.*)", message).groups()
        found[pathlib.Path(path).name].append((int(number), level, text))
    return found


def test_nothing_public_is_any(messages):
    lines, types, errors = script(), {}, []
    for number, level, text in messages["users_script.py"]:
        line, name = lines[number - 1]
        if level == "note":
            types[name] = re.match('Revealed type is "(.*)"', text)[1]
        elif "no_such_name" in line:
            types[f"{name}()"] = name
        else:
            errors.append(text)
    assert not errors
    assert types.keys() == {n + "()" * ("no_such" in line) for line, n in lines if n}
    untyped = {name for name, shown in types.items() if is_any(shown)}
    assert sorted(untyped - TENSORS) == []


def test_benchmarks_and_examples_use_what_is_there(messages):
    """They are too long to run here; what they call must exist."""
    gone = [
        f"{file}:{number}: {text}"
        for file, of in messages.items()
        for number, _, text in of
        if file != "users_script.py"
        and re.search(r"\[(attr-defined|call-arg|name-defined|import-not-found)\]$", text)
        and not re.search(r"\"(jax|stable_baselines3|torch)\b", text)  # not of this environment
    ]
    assert not gone, "\n".join(gone)
