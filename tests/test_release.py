"""What is published says the same everywhere: versions, public names, snippets that are Python."""

import ast
import importlib.util
import pathlib
import re
import tomllib
import types

import pytest

import keras_drmad
from keras_drmad import paths, plots, tuners

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert keras_drmad.__version__ == version
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## ([\d.]+)", changelog, re.MULTILINE)[1] == version


def test_each_extra_is_checked_and_explained() -> None:
    extras = set(PROJECT["optional-dependencies"]) - {"dev"}
    assert set(script("installed").BRINGS) == extras
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`keras_drmad\[(\w+)\]`", page)) == extras | {"dev"}


def test_lowest_versions_are_those_of_the_project() -> None:
    found = script("lowest").lowest()
    assert f"tensorflow>={found['tensorflow']}" in PROJECT["dependencies"]
    assert "optuna" in found and "ruff" not in found


@pytest.mark.parametrize("module", [keras_drmad, paths, plots, tuners])
def test_the_reference_has_all_public_names(module: types.ModuleType) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = {name.rpartition(".")[2] for name in re.findall(r"\.\. auto\w+:: ([\w.]+)", pages)}
    names = {
        name for name in module.__all__ if not isinstance(getattr(module, name), types.ModuleType)
    }
    assert names <= shown


def test_snippets_are_python() -> None:
    """Those that are not run when the site is built; `...` stands for what is left out."""
    number = 0
    for page in [*PAGES, ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:python|\{code-cell\} \w+)\n(.*?)^```", text, re.M | re.S):
            ast.parse(re.sub(r"^:.*\n", "", block, flags=re.M), str(page))
            number += 1
    assert number > 50


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def script(name: str) -> types.ModuleType:
    """A script of `.ci`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
