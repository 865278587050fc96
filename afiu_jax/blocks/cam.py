"""CAM, SUN's channel attention: every channel is weighted by the channels that it resembles least."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.initializers import Constant, declare


class CAM(nnx.Module):
    """``γ · (A X) ∘ X`` with ``A = sigmoid(max_row(E) − E)`` and ``E = X Xᵀ``, X being channels × pixels.

    There is neither a softmax nor a residual, and γ, one number, is 0 at first: the module then gives zeros, and its
    own gradient is the only one that passes.
    """

    def __init__(self):
        init = Constant(0.0)
        self.gamma = declare(nnx.Param(init(None, (1,))), init)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Shape of the input."""
        # E grows with the number of pixels and its rows are compared, so the products keep every digit of float32.
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        energy = jnp.einsum("bhwi,bhwj->bij", wide, wide, precision="highest")
        attention = jax.nn.sigmoid(energy.max(-1, keepdims=True) - energy)
        attended = jnp.einsum("bij,bhwj->bhwi", attention, wide, precision="highest")
        return (self.gamma[...] * attended * wide).astype(x.dtype)
