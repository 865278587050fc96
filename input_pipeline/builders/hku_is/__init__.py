"""HKU-IS."""

from input_pipeline.builders.hku_is.hku_is import HkuIs

__all__ = ["HkuIs"]
