"""Installs the built wheel into a fresh environment, and checks it there; needs no network.

    python .ci/check_dist.py dist

The environment takes the dependencies from the one that runs this, and the package from the wheel,
which `python -m build` has made from the sdist.
"""

import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile

ROOT = pathlib.Path(__file__).parent.parent
NEEDED = ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.py", "tests/conftest.py")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    stem = f"{project['name']}-{version}"
    folder = pathlib.Path(sys.argv[1])
    wheel, sdist = folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"

    names = zipfile.ZipFile(wheel).namelist()
    beside = [n for n in names if not n.startswith(("keras_drmad/", f"{stem}.dist-info/"))]
    assert not beside, f"The wheel holds more than the package: {beside}"
    with tarfile.open(sdist) as archive:
        held = set(archive.getnames())
    missing = [name for name in NEEDED if f"{stem}/{name}" not in held]
    assert not missing, f"The sdist misses {missing}"

    with tempfile.TemporaryDirectory() as place:
        environment = pathlib.Path(place) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, wheel.resolve()], check=True)
        packages = next((environment / "lib").glob("python3*/site-packages"))
        dependencies = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "dependencies.pth").write_text("\n".join(dependencies))
        script = [python, "-I", ROOT / ".ci" / "installed.py", version]
        subprocess.run(script, cwd=place, check=True)


if __name__ == "__main__":
    main()
