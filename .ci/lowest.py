"""Prints pip constraints: the lowest version that pyproject.toml allows of each package.

Of the Python that runs it.

python .ci/lowest.py > constraints.txt
"""

import pathlib
import re
import sys
import tomllib

PYPROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"
TOOLS = ("build", "mypy", "pre-commit", "ruff", "types-grpcio")  # they check, and are not used


def lowest() -> dict[str, str]:
    """`{package: version}` of everything that is required, by the package or by an extra."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    found: dict[str, str] = {}
    newer: dict[str, str] = {}  # with this version of Python
    for requirement in [*project["dependencies"], *(one for extra in extras for one in extra)]:
        if requirement.startswith(f"{project['name']}["):
            continue
        match = re.fullmatch(
            r"([\w-]+)>=([\d.]+)(?:; python_version >= '(\d+)\.(\d+)')?", requirement
        )
        if match is None:
            raise ValueError(
                "Requirements must read `name>=version`, or `name>=version; python_version >= 'X.Y'`. "
                f"Received: {requirement}"
            )
        name, version, *python = match.groups()
        if python != [None, None]:
            if sys.version_info >= tuple(map(int, python)):
                newer[name] = version
        elif found.setdefault(name, version) != version:
            raise ValueError(f"{name} is required in two versions: {found[name]} and {version}")
    return {name: version for name, version in (found | newer).items() if name not in TOOLS}


if __name__ == "__main__":
    for name, version in sorted(lowest().items()):
        print(f"{name}=={version}")
