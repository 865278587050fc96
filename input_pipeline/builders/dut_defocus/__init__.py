"""DUT-DBD."""

from input_pipeline.builders.dut_defocus.dut_defocus import DutDefocus

__all__ = ["DutDefocus"]
