"""The tree shows the architecture: imports run one way, and folders say what they hold."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = {"keras_drmad": "keras_drmad", "tuners": "keras_drmad.tuners"}
MOST_LINES = 400


def modules():
    """`{dotted name: path}` of all files of both packages; a folder's `__init__` has its name."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[0] == "tuners":  # a build may have put a copy there
                continue
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


KNOWN = modules()


def imports(module):
    """Modules of ours that a file imports."""
    package = module if KNOWN[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(KNOWN[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(KNOWN)
        if not isinstance(node, ast.ImportFrom):
            continue
        name = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            name = ".".join([*above, *filter(None, [name])])
        for alias in node.names:
            inner = f"{name}.{alias.name}"
            found |= {inner if inner in KNOWN else name} & set(KNOWN)
    return found - {module}


IMPORTS = {module: imports(module) for module in KNOWN}


def folders(module):
    """The folders that a module is in, outermost first; a folder is in itself."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def beside(module, other):
    """Where the ways to two modules part: the two things side by side in one folder."""
    for mine, its in zip(folders(module), folders(other), strict=False):
        if mine != its:
            return mine, its
    return None


def test_imports_are_found():
    """The other tests could not fail if none were."""
    assert "keras_drmad.arguments" in IMPORTS["keras_drmad.hypergradient"]  # absolute
    assert "keras_drmad.tuners.distributed.oracle" in IMPORTS["keras_drmad.tuners.qan.oracle"]
    assert sum(map(len, IMPORTS.values())) > 150


def test_no_module_is_imported_in_a_circle():
    graph = {m: of for m, of in IMPORTS.items() if KNOWN[m].name != "__init__.py"}
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


def test_imports_run_one_way_between_what_stands_side_by_side():
    """In each folder its files and folders can be put in an order, and use those before only."""
    graph = {}
    for module, of in IMPORTS.items():
        for other in of:
            if pair := beside(module, other):
                graph.setdefault(pair[0], set()).add(pair[1])
    graphlib.TopologicalSorter(graph).prepare()


def test_the_engine_does_not_know_the_tuners():
    for module, of in IMPORTS.items():
        if not module.startswith("keras_drmad.tuners"):
            assert not any(other.startswith("keras_drmad.tuners") for other in of), module


def test_tuners_import_each_other_relatively():
    """Type checkers and tools that draw imports resolve `tuners/` by its own name only so."""
    for path in (ROOT / "tuners").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not (node.module or "").startswith("keras_drmad.tuners"), path


@pytest.mark.parametrize("folder", [m for m, p in KNOWN.items() if p.name == "__init__.py"])
def test_each_folder_says_what_it_holds(folder):
    assert ast.get_docstring(ast.parse(KNOWN[folder].read_text()))


def test_private_names_of_keras_and_tensorflow_are_in_one_file():
    private = ("keras.src", "keras_tuner.src", "tensorflow.python")
    for path in (path for of in PACKAGES for path in (ROOT / of).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and path.name != "compat.py":
                assert not (node.module or "").startswith(private), path


@pytest.mark.parametrize("folder", [*PACKAGES, "tests", "examples", "benchmarks"])
def test_files_are_short(folder):
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
