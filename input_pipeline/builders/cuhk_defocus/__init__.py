"""The defocused half of Shi et al.'s blur dataset (CUHK)."""

from input_pipeline.builders.cuhk_defocus.cuhk_defocus import CuhkDefocus

__all__ = ["CuhkDefocus"]
