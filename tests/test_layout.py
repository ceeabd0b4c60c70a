"""The table of files in CONTRIBUTING.md is true: who imports whom, and that imports run one way."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = {"keras_drmad": "keras_drmad", "tuners": "keras_drmad.tuners"}


def modules():
    """`{module: its path in the table}` of all files, but those that only collect names."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder)
            if path.name != "__init__.py" and "tuners" not in relative.parts:
                found[".".join([package, *relative.with_suffix("").parts])] = folder, str(relative)
    return found


def imports(path, known):
    """Modules of ours that a file imports; packages stand for themselves."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_drmad"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return found


def table():
    """`{(folder, file): imports}` in their order."""
    text, rows, folder = (ROOT / "CONTRIBUTING.md").read_text(), {}, None
    for line in text.splitlines():
        if begins := re.match(r"\| file in `(\w+)/` \| holds", line):
            folder = begins[1] if begins[1] in PACKAGES else None
        elif folder and (row := re.match(r"\| `([\w/]+\.py)` \| .* \| (.*) \|$", line)):
            rows[folder, row[1]] = set(re.findall(r"`([\w/]+)`", row[2]))
    return rows


KNOWN, ROWS = modules(), table()


def used(module):
    """What a file imports, as the table has it: files of the same folder by their names alone."""
    folder, file = KNOWN[module]
    found = set()
    for name in imports(ROOT / folder / file, set(KNOWN)) - {module}:
        where, other = KNOWN.get(name, ("keras_drmad", name.split(".")[-1]))  # a package
        path = pathlib.PurePath(other).with_suffix("")
        if where == folder and path.parent == pathlib.PurePath(file).parent:
            found.add(path.name)
        else:
            found.add(str(path) if where == folder and path.parent.name else f"{where}/{path}")
    return found


@pytest.mark.parametrize("module", KNOWN)
def test_the_table_says_what_a_file_imports(module):
    assert ROWS[KNOWN[module]] == used(module)


def test_files_use_those_above_them_only():
    order = {key: place for place, key in enumerate(ROWS)}
    for module, key in KNOWN.items():
        for name in imports(ROOT / key[0] / key[1], set(KNOWN)):
            if name in KNOWN and name != module:
                assert order[KNOWN[name]] < order[key], f"{module} uses {name}"


def test_the_table_has_all_files_and_no_others():
    assert set(ROWS) == set(KNOWN.values())
