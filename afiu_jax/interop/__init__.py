"""Weights that were published for PyTorch: ``backbone`` (ImageNet ResNet-50)."""
