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
napoleon_use_param = False  # names that share a line stay together
copybutton_exclude = ".linenos, .gp, .go"

SECTION = re.compile(r"(Args|Attributes|Example|References|Raises|Returns):$")
LETTER_AFTER_CODE = re.compile(r"(?<!`)(`[^`]+`)(?=[A-Za-z])")


def as_restructured_text(
    app: sphinx.application.Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    """Docstrings are written as Keras's, nearly in Markdown: indented blocks are formulas.

    And a list of names before a colon may go on in a second line.
    """
    found: list[str] = []
    section = ""
    for number, line in enumerate(lines):
        line = LETTER_AFTER_CODE.sub(r"\1\\ ", line)
        above = next((text for text in reversed(found) if text.strip()), "")
        if match := SECTION.match(line):
            section = match[1]
        elif section in ("Args", "Attributes") and re.match(r"    [*\w]+,[^:]*$", above):
            found[-1] += " " + line.strip()
            continue
        elif (
            not section
            and line.startswith("    ")
            and not lines[number - 1].strip()
            and not above.startswith((" ", "- ", ">>>"))
        ):
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def keep_errors_beside_means(app: sphinx.application.Sphinx, page: str, source: list[str]) -> None:
    """No line ends within `a ± b`."""
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")


def setup(app: sphinx.application.Sphinx) -> None:
    app.connect("source-read", keep_errors_beside_means)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)  # before napoleon
