"""The site: Sphinx with MyST. Guides and tutorials are run when it is built (`make docs`)."""

import os
import pathlib
import re
import tomllib

import sphinx.application

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # of the notebooks' kernels

_pyproject = pathlib.Path(__file__).parent.parent / "pyproject.toml"
_metadata = tomllib.loads(_pyproject.read_text(encoding="utf-8"))["project"]

project = _metadata["name"]
author = copyright = "The keras_drmad authors"
version = release = _metadata["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_cache_path = str(pathlib.Path(__file__).parent / "_build" / "cache")
nb_execution_in_temp = True  # as a new user would, in an empty folder
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
default_role = "code"  # docstrings have single backticks, as Keras's
napoleon_google_docstring = True
napoleon_numpy_docstring = False
copybutton_exclude = ".linenos, .gp, .go"

SECTION = re.compile(r"(Args|Attributes|Example|Examples|References|Raises|Returns|Yields):$")


def keep_formulas(
    app: sphinx.application.Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    """Indented blocks of docstrings are formulas, as in Markdown; reStructuredText wants a `::`."""
    found: list[str] = []
    for number, line in enumerate(lines):
        if SECTION.match(line):
            found += lines[number:]
            break
        above = next((text for text in reversed(found) if text.strip()), "")
        opens = line.startswith("    ") and number and not lines[number - 1].strip()
        if opens and not above.startswith((" ", "- ", ">>>")):
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def setup(app: sphinx.application.Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_formulas, priority=400)  # before napoleon
