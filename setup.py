"""Metadata stands in pyproject.toml; only the layout of packages is said here.

`tuners/` is installed as `keras_drmad.tuners`, for wheels and editable installs alike.
"""

from setuptools import find_packages, setup

packages = [*find_packages(include=["keras_drmad", "keras_drmad.*"]), "keras_drmad.tuners"]
packages += [f"keras_drmad.tuners.{name}" for name in find_packages("tuners")]

setup(
    packages=packages,
    package_dir={"keras_drmad.tuners": "tuners"},
    package_data={"keras_drmad": ["py.typed"], "keras_drmad.tuners": ["py.typed"]},
)
