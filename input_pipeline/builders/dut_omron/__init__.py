"""DUT-OMRON."""

from input_pipeline.builders.dut_omron.dut_omron import DutOmron

__all__ = ["DutOmron"]
