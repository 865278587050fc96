"""Weights that were published for PyTorch, into our networks and back.

``load_torch_checkpoint`` fills a network from a whole state dict, ``load_backbone`` a backbone from ImageNet's.
"""

from afiu_jax.interop.backbone import load_backbone
from afiu_jax.interop.torch_checkpoint import load_torch_checkpoint

__all__ = ["load_backbone", "load_torch_checkpoint"]
