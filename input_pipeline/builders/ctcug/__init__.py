"""CTCUG."""

from input_pipeline.builders.ctcug.ctcug import Ctcug

__all__ = ["Ctcug"]
