"""ECSSD."""

from input_pipeline.builders.ecssd.ecssd import Ecssd

__all__ = ["Ecssd"]
