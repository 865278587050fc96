"""A published state dict out of an ONNX graph, whose exporter folded batch normalisation and lost most of the names.

Exporters multiply the scale of a normalisation into the kernel before it, add its shift to the bias, and name the new
arrays by numbers. What is left is the graph itself: its convolutions stand in the order of the original's program,
and so do ours. They are paired in that order, and a file is refused unless every convolution has the same shape and
comes after the same ones in both (``wiring``).

A folded normalisation is the identity here: mean 0, variance 1 − epsilon, scale 1, shift 0.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.interop.layout import Entry, entries
from afiu_jax.interop.readers import StateDict
from afiu_jax.interop.wiring import Convolution, convolutions
from afiu_jax.networks import NETWORKS

PRODUCER = "afiu_jax"
"""What programs of ``afiu export`` say that they were made by."""

_NORM_LEAVES = ("scale", "bias", "mean", "var")  # in the order of ONNX's BatchNormalization

Module = Mapping[str, Entry]
"""Arrays of one of our modules by the name of the leaf."""


def read_onnx(path: Path, model: nnx.Module, name: str) -> StateDict:
    """The published state dict of a network from its ONNX graph.

    Args:
        path: the file.
        model: the network that it is meant for; abstract or not.
        name: its key in ``NETWORKS``.

    Returns:
        Arrays by published key, as if nothing had been folded; what was is among ``identities``.

    Raises:
        UserError: no such file, a damaged one, another network's, or the ``onnx`` package is not installed.
    """
    try:
        return _read(path, model, name)
    except UserError:
        raise
    except Exception as error:  # a damaged graph fails in any way: DecodeError, TypeError, IndexError
        raise UserError(f"cannot read {path}, which is damaged or not an ONNX file") from error


def _read(path: Path, model: nnx.Module, name: str) -> StateDict:
    """What ``read_onnx`` returns; raises anything if the graph is damaged."""
    graph, tensors = _load(path)
    modules: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in entries(model, name):
        module, _, leaf = entry.path.rpartition(".")
        modules[module][leaf] = entry
    keys = {entry.key for module in modules.values() for entry in module.values()}
    arrays = {key: tensors[key] for key in keys if key in tensors}
    epsilon = {".".join(map(str, at)): getattr(module, "epsilon", None) for at, module in nnx.iter_modules(model)}
    norm_nodes = {node.input[0]: node for node in graph.node if node.op_type == "BatchNormalization"}
    side, _ = NETWORKS[name].sizes.nearest(320)
    misfit = f"{path} does not fit {name}"
    for node, ours in _pairs(graph, tensors, modules, convolutions(model, side), misfit):
        kernel, *bias = _constants(node, tensors, misfit)
        module, norm = modules[ours.path], modules[ours.norm] if ours.norm else {}
        arrays[_kernel(module).key] = kernel
        if "bias" in module:
            arrays[module["bias"].key] = bias.pop() if bias else np.zeros(len(kernel), np.float32)
        values = []
        if norm and node.output[0] in norm_nodes:
            values = _constants(norm_nodes[node.output[0]], tensors, misfit)
        elif norm:
            ones = np.ones(len(kernel), np.float32)
            shift = bias.pop() if bias else 0 * ones  # where our convolution has no bias of its own
            values = [ones, shift, 0 * ones, (1 - epsilon[ours.norm]) * ones]
        arrays |= {norm[leaf].key: value for leaf, value in zip(_NORM_LEAVES, values, strict=False)}
        if bias:
            raise UserError(f"{misfit}: {node.name or node.input[1]} has a bias, {_kernel(module).key} has none")
    return arrays


def _load(path: Path):
    """The graph of a file and its constant tensors by name."""
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"reading {path} takes the onnx package: uv sync --extra export, or pip install onnx"
        ) from error
    if not path.is_file():
        raise UserError(f"no file {path}")
    file = onnx.load(path)
    if file.producer_name == PRODUCER:  # its maps may be turned over, and how it is used is not what is assumed here
        raise UserError(
            f"{path} is a program of afiu export, for use in place of the network: export it as --format safetensors, "
            "and import that"
        )
    graph = file.graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        if node.op_type == "Identity" and node.input[0] in tensors:  # equal arrays that the exporter stored once
            tensors[node.output[0]] = tensors[node.input[0]]
    if not graph.node:
        raise UserError(f"{path} holds no graph: it is damaged or not an ONNX file")
    return graph, tensors


def _pairs(
    graph, tensors: StateDict, modules: Mapping[str, Module], ours: list[Convolution], misfit: str
) -> Iterator[tuple[object, Convolution]]:
    """Every convolution of the graph with ours: by the kernel's name where it is left, the others in order."""
    theirs = _convolutions(graph)
    if len(theirs) != len(ours):
        raise UserError(f"{misfit}: it has {len(theirs)} convolutions, the network {len(ours)}")
    named = {_kernel(modules[convolution.path]).key: convolution for convolution in ours}
    in_graph = {node.input[1] for node, _ in theirs}
    unnamed = iter([convolution for key, convolution in named.items() if key not in in_graph])
    pairs = {id(node): named.get(node.input[1]) or next(unnamed) for node, _ in theirs}
    for node, before in theirs:
        convolution = pairs[id(node)]
        kernel = _kernel(modules[convolution.path])
        found = _constants(node, tensors, misfit)[0].shape
        if found != kernel.shape:
            raise UserError(f"{misfit}: {node.name or node.input[1]} is {found}, {kernel.key} is {kernel.shape}")
        if {pairs[id(earlier)].path for earlier in before} != convolution.before:
            raise UserError(f"{misfit}: {node.name or node.input[1]} and {kernel.key} come after other convolutions")
        yield node, convolution


def _convolutions(graph) -> list[tuple[object, list[object]]]:
    """The graph's convolutions in its order, each with those whose outputs reach it through none between."""
    found, before = [], defaultdict(dict)
    for node in graph.node:
        reaching = {}
        for tensor in node.input:
            reaching |= before[tensor]
        if node.op_type in ("Conv", "ConvTranspose"):
            found.append((node, list(reaching.values())))
            reaching = {id(node): node}
        if node.op_type != "Shape":  # sizes carry no values
            before |= dict.fromkeys(node.output, reaching)
    return found


def _constants(node, tensors: StateDict, misfit: str) -> list[np.ndarray]:
    """What a node has beside its first input, the map."""
    if missing := [tensor for tensor in node.input[1:] if tensor not in tensors]:
        raise UserError(f"{misfit}: {missing[0]} of {node.name} is computed; quantised files cannot be read")
    return [tensors[tensor] for tensor in node.input[1:]]


def _kernel(module: Module) -> Entry:
    return next(entry for entry in module.values() if len(entry.shape) == 4)
