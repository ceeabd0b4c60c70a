"""Prints pip constraints: the lowest version that pyproject.toml allows of each package.

python .ci/lowest.py > constraints.txt
"""

import pathlib
import re
import tomllib

PYPROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"
TOOLS = ("build", "mypy", "pre-commit", "ruff", "types-grpcio")  # they check, and are not used


def lowest() -> dict[str, str]:
    """`{package: version}` of everything that is required, by the package or by an extra."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    found: dict[str, str] = {}
    for requirement in [*project["dependencies"], *(one for extra in extras for one in extra)]:
        if requirement.startswith(f"{project['name']}["):
            continue
        match = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
        if match is None:
            raise ValueError(f"Requirements must read `name>=version`. Received: {requirement}")
        name, version = match.groups()
        if found.setdefault(name, version) != version:
            raise ValueError(f"{name} is required in two versions: {found[name]} and {version}")
    return {name: version for name, version in found.items() if name not in TOOLS}


if __name__ == "__main__":
    for name, version in sorted(lowest().items()):
        print(f"{name}=={version}")
