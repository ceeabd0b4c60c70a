"""Metadata stands in pyproject.toml; only the layout of packages is said here.

`tuners/` is installed as `keras_drmad.tuners`, for wheels and editable installs alike, once it holds
code.
"""

import pathlib

from setuptools import find_packages, setup

packages = find_packages(include=["keras_drmad", "keras_drmad.*"])
package_dir = {}
if pathlib.Path("tuners/__init__.py").exists():
    package_dir["keras_drmad.tuners"] = "tuners"
    packages += ["keras_drmad.tuners"]
    packages += [f"keras_drmad.tuners.{name}" for name in find_packages("tuners")]

setup(packages=packages, package_dir=package_dir)
