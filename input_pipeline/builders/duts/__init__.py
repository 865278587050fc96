"""DUTS."""

from input_pipeline.builders.duts.duts import Duts

__all__ = ["Duts"]
