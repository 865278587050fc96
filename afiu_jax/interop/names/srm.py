"""Names of SRM: the layers of the official Caffe graph, where normalisation is two layers.

``BatchNorm`` holds the statistics, the ``Scale`` after it scale and bias: of ``backbone1.levels.0.blocks.1.norm2``,
``layer_64_2_bn2`` and ``layer_64_2_scale2``. The second backbone's names end in ``-stage2``.
"""

from flax import nnx

_HEADS = {"gather1": "conv5_4", "classify1": "conv6"}
_STAGES = {
    "stage2": {
        "pool": "conv5_3_pool{}_conv",
        "gather": "conv5_4-stage2",
        "squeeze": "layer_512_1_bn1_compress-stage2",
        "classify": "combine-stage12-cls",
        "smooth": "combine-stage12-cls2",
    },
    "stage3": {
        "pool": "conv3_4_pool{}_conv",
        "gather": "conv3_4-stage3",
        "squeeze": "layer_256_1_bn1_compress-stage3",
        "classify": "combine-stage23-cls",
        "smooth": "combine-stage23-cls2",
    },
}


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the layer at ``path``; of a normalisation's, the layer with scale and bias."""
    return _name(path, norm="scale")


def statistics_name(model: nnx.Module, path: str) -> str:
    """The name of the layer with the statistics of the normalisation at ``path``."""
    return _name(path, norm="bn")


def _name(path: str, norm: str) -> str:
    module, _, rest = path.partition(".")
    if module in _HEADS:
        return _HEADS[module]
    if module in _STAGES:
        part, _, pooled = rest.partition(".conv.bins")
        return _STAGES[module][part].format(pooled)
    return _backbone(rest, norm) + ("-stage2" if module == "backbone2" else "")


def _backbone(path: str, norm: str) -> str:
    if not path.startswith("levels."):
        return {"image_norm": f"data_{norm}", "stem_conv": "conv1", "stem_norm": f"conv1_{norm}"}[path]
    level, *block, layer = path.removeprefix("levels.").split(".")
    # Named by their width in ResNet-50, whatever it is here.
    width = 64 * 2 ** int(level)
    if not block:
        return f"last_{norm}" if width == 512 else f"layer_{2 * width}_1_{norm}1"
    published = {"expand": "conv_expand"}.get(layer, layer.replace("norm", norm))
    return f"layer_{width}_{int(block[1]) + 1}_{published}"
