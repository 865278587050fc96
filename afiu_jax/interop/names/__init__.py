"""The published names of our parameters, one file per network, so that weights travel both ways.

Every file has ``module_name(model, path) -> str``: the published (PyTorch) name of the sub-module that stands at
``path`` in our network, dotted, such as ``stage1.encode.0.conv`` -> ``stage1.rebnconv1.conv_s1``. What a module's
arrays are called and how they lie in memory is the same for all networks: ``afiu_jax/interop/layout.py``.

A file may also have

- ``statistics_name(model, path) -> str``, where running statistics have a name of their own, apart from scale and
  bias: Caffe's BatchNorm and Scale layers. Such networks have no ``num_batches_tracked``.
- ``backbone_name(key) -> str | None``: the key of torchvision's (and timm's) array that belongs at the published key
  ``key``; None outside the backbone. Without the function, there is no such file.
"""

from importlib import import_module
from types import ModuleType

from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.networks import NETWORKS

_FILES = {
    "u2netp": "u2net",
    "minet_res50": "minet",
    "minet_vgg16": "minet",
    "cpd_res50": "cpd",
    "cpd_vgg16": "cpd",
}

BACKBONES = {
    "afiu": "ResNet-50",
    "basnet": "ResNet-34",
    "cpd_res50": "ResNet-50",
    "cpd_vgg16": "VGG-16",
    "minet_res50": "ResNet-50",
    "minet_vgg16": "VGG-16 with batch normalisation",
    "srm": "the pre-activation ResNet-50 of Simon et al. 2016, a Caffe model",
    "sun": "ResNet-50",
}
"""Which ImageNet network the backbone of each network is, of those that have one."""


def names_of(network: str) -> ModuleType:
    """The file with the published names of a network, by its key in ``NETWORKS``.

    Raises:
        UserError: there is none.
    """
    name = f"{__name__}.{_FILES.get(network, network)}"
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"{network} has no published names, under which weights are read and written: "
            f"add {name.replace('.', '/')}.py, as its folder's __init__.py says"
        ) from None


def network_name(model: nnx.Module) -> str:
    """The key in ``NETWORKS`` of a network.

    Raises:
        UserError: it is none of them.
    """
    for name, network in NETWORKS.items():
        if type(model) is network:
            return name
    raise UserError(f"{type(model).__name__} is none of the networks: {', '.join(NETWORKS)}")
