"""Names of U²-Net and U²-Netp, whose modules here bear the published names down to the RSUs."""

from flax import nnx

from afiu_jax.interop.names import blocks


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    return f"{module}.{blocks.rsu(getattr(model, module), rest)}" if rest else module
