"""SOD."""

from input_pipeline.builders.sod.sod import Sod

__all__ = ["Sod"]
