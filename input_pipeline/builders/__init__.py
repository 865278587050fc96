"""TFDS builders for the public SOD and DBD datasets.

Each package holds one dataset: where it comes from, which files it has, what white means in its masks.
``base`` turns such a declaration into a builder, ``files`` finds the photos below a folder or inside its
archives, and ``encode`` makes the bytes that are stored.
"""

import importlib

from input_pipeline.builders.base import MaskDatasetBuilder
from input_pipeline.records import DataError

BUILDERS = {
    "duts": "Duts",
    "ecssd": "Ecssd",
    "sod": "Sod",
    "hku_is": "HkuIs",
    "pascal_s": "PascalS",
    "dut_omron": "DutOmron",
    "cuhk_defocus": "CuhkDefocus",
    "dut_defocus": "DutDefocus",
    "ctcug": "Ctcug",
}
"""Dataset name → class name inside ``input_pipeline.builders.<name>``."""


def builder_class(name: str) -> type[MaskDatasetBuilder]:
    """The builder of a dataset, imported (and thereby registered with TFDS) on first use.

    Raises:
        DataError: no dataset has that name, or TFDS calls it otherwise.
    """
    if name not in BUILDERS:
        raise DataError(f"unknown dataset {name!r}; known are {', '.join(sorted(BUILDERS))}")
    found = getattr(importlib.import_module(f"{__name__}.{name}"), BUILDERS[name])
    if found.name != name:  # where its records lie is called so
        raise DataError(f"class {found.__name__} is {found.name} to TFDS, not {name}: call the dataset or the class so")
    return found
