"""What pyproject.toml cannot say: a folder outside the packages goes into the wheel.

`gena serve --model gena-mini` has to work where there is no clone and no hub, so the wheel (27 MB,
beside 200 of torch) carries the checkpoint, as data of a package that lies in `models/` here.
`converter.checkpoint.files` finds it in both places.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["app*", "converter*"]), "converter.shipped"],
    package_dir={"converter.shipped": "models"},
)
