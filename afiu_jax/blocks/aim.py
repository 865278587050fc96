"""AIM, MINet's aggregate interaction module (Pang et al., CVPR 2020): a level and its neighbours become one map."""

from collections.abc import Mapping

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.blocks.exchange import Exchange
from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory, upsample2


class AIM(nnx.Module):
    """Aggregates two or three adjacent backbone levels at the resolution of the main one.

    Four stages, every convolution 3×3 with bias: ``embed`` each level to ``mid`` channels; ``exchange`` between
    neighbours; ``merge`` into the main branch; ``project`` to ``out`` channels, plus a 1×1 ``identity`` of the raw
    main level (no normalisation on it), then ReLU.

    Neighbours are enlarged by repeating pixels, so each level must be exactly twice the next.

    Args:
        inputs: channels of the levels, by branch name: ``h`` above, ``m`` itself, ``l`` below; the first level has
            ``h`` (main) and ``l``, the last ``h`` and ``l`` (main).
        main: name of the branch whose resolution the output has.
        out: channels of the output.
        mid_cap: upper bound of ``mid``, which is otherwise the least number of channels among the inputs. The
            published networks have none; it makes small networks.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        main: str,
        out: int = 64,
        *,
        mid_cap: int | None = None,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        factories = {"conv": conv, "norm": norm}
        mid = min([*inputs.values(), mid_cap or max(inputs.values())])
        widths = dict.fromkeys(inputs, mid)
        self.main = main
        self.embed = nnx.Dict({b: ConvNormReLU(c, mid, **factories) for b, c in inputs.items()})
        self.exchange = Exchange(widths, upsample=_repeat, **factories)
        self.merge = Exchange(widths, (main,), upsample=_repeat, **factories)
        self.project, self.project_norm = conv(mid, out, 3), norm(out)
        self.identity = conv(inputs[main], out, 1)

    def __call__(self, levels: Mapping[str, Float[Array, "b _h _w _c"]]) -> Float[Array, "b h w c"]:
        """Aggregates the levels, given by branch name, at the size of the main one."""
        x = {b: self.embed[b](level) for b, level in levels.items()}
        x = self.merge(self.exchange(x))[self.main]
        return nnx.relu(self.project_norm(self.project(x)) + self.identity(levels[self.main]))


def _repeat(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    x = upsample2(x)
    if x.shape[1:3] != size:
        raise ValueError(f"AIM needs levels that are exact doubles: {x.shape[1:3]} meets {size}")
    return x


def neighbours(channels: tuple[int, ...], level: int) -> tuple[dict[str, int], str]:
    """Branches of the AIM of one level: ``{branch: level index}`` and the main branch's name.

    Args:
        channels: channels of all levels; only their number matters here.
        level: index of the AIM's own level, from 0.
    """
    last = len(channels) - 1
    if level == 0:
        return {"h": 0, "l": 1}, "h"
    if level == last:
        return {"h": last - 1, "l": last}, "l"
    return {"h": level - 1, "m": level, "l": level + 1}, "m"
