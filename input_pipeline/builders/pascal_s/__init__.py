"""PASCAL-S."""

from input_pipeline.builders.pascal_s.pascal_s import PascalS

__all__ = ["PascalS"]
