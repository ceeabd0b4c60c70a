"""The page of warnings and errors quotes texts that there are, and all warnings."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"
WARNINGS = ("warnings.warn", "_log.warning", "_log.error", "self._warn")
GAP = "…"


def text(node: ast.expr) -> str:
    """What a message says, with `…` for what is filled in."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%(\.\d)?[a-z]", GAP, str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    return GAP


def files() -> Iterator[ast.Module]:
    for folder in ("keras_drmad", "tuners"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"))


def warned() -> list[str]:
    calls = (node for file in files() for node in ast.walk(file) if isinstance(node, ast.Call))
    found = [text(call.args[0]) for call in calls if ast.unparse(call.func) in WARNINGS]
    return [message for message in found if message.strip(GAP)]


@functools.cache
def said() -> list[str]:
    """All texts of the package, those that are put together from several lines in one."""
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    nodes = (node for file in files() for node in ast.walk(file) if isinstance(node, kinds))
    return [text(node) for node in nodes]


def quoted() -> list[str]:
    """The terms of the page's definition lists."""
    found = re.findall(r"^(`+)\s?(.+?)\s?\1\n: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [term for _, term in found]


def fits(term: str, message: str) -> bool:
    """Whether all parts of a term stand in the message, in their order."""
    parts = (re.escape(part.strip()) for part in term.split(GAP) if part.strip())
    return re.search(".*".join(parts), message, re.DOTALL) is not None


@pytest.mark.parametrize("term", quoted())
def test_each_text_of_the_page_is_there(term: str) -> None:
    assert any(fits(term, message) for message in said())


def test_each_warning_is_on_the_page() -> None:
    terms = quoted()
    assert len(terms) > 60
    missing = [m for m in warned() if not any(fits(term, m) for term in terms)]
    assert not missing
