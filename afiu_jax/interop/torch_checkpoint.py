"""Published weights into a network: ``load_torch_checkpoint``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flax import nnx

from afiu_jax.batch_norm import identities
from afiu_jax.interop.layout import entries, from_published, is_counter
from afiu_jax.interop.names import network_name
from afiu_jax.interop.onnx_graph import read_onnx
from afiu_jax.interop.readers import as_state_dict, read_state_dict
from afiu_jax.layers import Kept
from input_pipeline.paths import at_home


@dataclass(frozen=True)
class Report:
    """What became of the arrays of a file.

    Attributes:
        source: the file.
        loaded: our dotted path of every array that was loaded, by published key.
        kept: sizes of those that no output depends on, in the original either, by published key.
        counters: keys that were passed over: PyTorch's counts of training batches.
        folded: our paths of the normalisations that the file, or the one that its weights come from, had folded into
            the convolutions before them; they are the identity now, and training would undo it.
    """

    source: str
    loaded: Mapping[str, str]
    kept: Mapping[str, int]
    counters: tuple[str, ...]
    folded: tuple[str, ...]

    def describe(self) -> str:
        """The counts in one line."""
        parts = [f"loaded {len(self.loaded)} arrays"]
        if self.kept:
            numbers = sum(self.kept.values())
            parts.append(f"{len(self.kept)} of them ({numbers:,} numbers) dead in the original and kept as they are")
        if self.counters:
            parts.append(f"passed over {len(self.counters)} counters of batches")
        if self.folded:
            parts.append(f"{len(self.folded)} batch normalisations were folded and are the identity")
        return ", ".join(parts)


def load_torch_checkpoint(model: nnx.Module, path_or_state_dict: str | Path | Mapping) -> Report:
    """Fills a network, in place, with weights in the names and the layout of the original program.

    Every array of the file must have its place and every place its array, in the same shape; ``module.`` prefixes
    are taken off, and ``num_batches_tracked`` may lack. If anything is wrong, the network is left as it was.

    Args:
        model: a network of this package.
        path_or_state_dict: ``.pth``, ``.pt`` (these take PyTorch), ``.safetensors``, ``.npz``, ``.onnx`` (takes the
            onnx package), or a state dict whose values are arrays or tensors.

    Returns:
        What went where.

    Raises:
        UserError: an unreadable file, a pickle of more than arrays, or arrays of another network; the message is one
            line that names the first keys at fault.
    """
    name = network_name(model)
    if isinstance(path_or_state_dict, Mapping):
        source = "the state dict"
        arrays = as_state_dict(path_or_state_dict, source)
    else:
        path = at_home(path_or_state_dict)
        source = str(path)
        arrays = read_onnx(path, model, name) if path.suffix == ".onnx" else read_state_dict(path)
    from_published(model, name, arrays, source)
    places = list(entries(model, name))
    return Report(
        source,
        loaded={entry.key: entry.path for entry in places},
        kept={entry.key: entry.variable.size for entry in places if isinstance(entry.variable, Kept)},
        counters=tuple(key for key in arrays if is_counter(key)),
        folded=identities(model),
    )
