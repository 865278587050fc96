"""What a program compiled for a GPU consists of, read from its text (XLA's optimised HLO)."""

import re
from collections import Counter
from collections.abc import Iterable
from math import prod
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.$-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.$-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_CONVOLUTION = re.compile(r'custom_call_target="__cudnn\$conv(\w+)"')
_CALLS = re.compile(r"(?:calls|to_apply)=%?([\w.$-]+)")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
        name: of its result.
        arrays: type and dimensions of every result.
        kind: the operation: ``fusion``, ``custom-call``, ``transpose``, …
        operands: names.
        text: the rest of the line.
    """

    name: str
    arrays: list[tuple[str, tuple[int, ...]]]
    kind: str
    operands: list[str]
    text: str


def read_computations(hlo: str) -> dict[str, list[Instruction]]:
    """The computations of a program by name."""
    computations, name = {}, ""
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[1]
            computations[name] = []
        elif name and (found := _INSTRUCTION.match(line)):
            operands = re.findall(r"%([\w.$-]+)", found[4].partition(")")[0])
            computations[name].append(Instruction(found[1], _arrays(found[2]), found[3], operands, found[4]))
    return computations


def summarise(hlo: str, kernels: Iterable[tuple[int, ...]]) -> dict:
    """Counts of what matters for speed.

    Args:
        hlo: text of the optimised program.
        kernels: shapes of the network's weights, to tell their transposes from those of activations.

    Returns:
        ``convolutions`` by direction and type; ``fusions``; ``all_reduces``, sums over devices;
        ``transposes_by_convolutions``: how many operations that feed or read a convolution change the order of
        dimensions, of activations and of weights; the bytes of activations in float32 and in bfloat16 that convolutions
        read and write; and ``bytes_of_kernels``, operands and results of everything that runs, each once and as a
        whole, or of operands the slices that alone are read; those of a loop for one turn.
    """
    computations = read_computations(hlo)
    transposing = {name for name, body in computations.items() if any(i.kind == "transpose" for i in body)}
    weights = {_sides(shape) for shape in kernels}
    convolutions, transposes, traffic = Counter(), Counter(), Counter()
    fusions, all_reduces, moved = 0, 0, 0
    callers = [i for body in computations.values() for i in body if i.kind != "call"]
    inside = {name for caller in callers for name in _CALLS.findall(caller.text)}  # of kernels: registers, no memory
    for name, body in computations.items():
        by_name = {instruction.name: instruction for instruction in body}
        for kernel in body if name not in inside else ():
            if kernel.kind not in _NOTHING and not kernel.kind.endswith("-done"):
                moved += _bytes(kernel) + _bytes_read(kernel, by_name, computations)
        fusions += sum(i.kind == "fusion" for i in body)
        all_reduces += sum(i.kind in ("all-reduce", "all-reduce-start") for i in body)
        found = [i for i in body if _CONVOLUTION.search(i.text)]
        names = {i.name for i in found}
        # A convolution gives its result and its scratch memory as a tuple, from which others take the result.
        taken = {i.name for i in body if i.kind == "get-tuple-element" and set(i.operands) & names}
        readers = [i for i in body if set(i.operands) & (names | taken) and i.name not in taken]
        sources = {operand for i in found for operand in i.operands}
        beside = {i.name: i for i in [*readers, *(by_name[s] for s in sources if s in by_name)]}
        for instruction in beside.values():
            called = _CALLS.search(instruction.text)
            if instruction.kind == "transpose" or (called and called[1] in transposing):
                of_weights = any(_sides(shape) in weights for _, shape in instruction.arrays)
                transposes["weights" if of_weights else "activations"] += 1
        for convolution in found:
            direction = _CONVOLUTION.search(convolution.text)[1]
            operands = [by_name[o].arrays[0] for o in convolution.operands if o in by_name]
            convolutions[f"{direction} {operands[0][0]}"] += 1
            for kind, shape in [*operands, convolution.arrays[0]]:
                if _sides(shape) not in weights:
                    traffic[kind] += prod(shape) * _BYTES.get(kind, 0)
    return {
        "convolutions": dict(sorted(convolutions.items())),
        "fusions": fusions,
        "all_reduces": all_reduces,
        "transposes_by_convolutions": {key: transposes[key] for key in ("activations", "weights")},
        "bytes_at_convolutions": {key: traffic[key] for key in ("f32", "bf16") if traffic[key]},
        "bytes_of_kernels": moved,
    }


_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}

_NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}
"""Operations that move nothing, but for what they call."""


def _bytes(instruction: Instruction) -> int:
    """Of its results."""
    return sum(prod(sides) * _BYTES.get(kind, 0) for kind, sides in instruction.arrays)


def _bytes_read(kernel: Instruction, by_name: dict[str, Instruction], computations: dict) -> int:
    """Of its operands, each as a whole, or the slices where a fusion reads nothing else of one."""
    called = _CALLS.search(kernel.text) if kernel.kind == "fusion" else None
    body = computations.get(called[1], []) if called else []
    parameters = {i.text.partition(")")[0]: i.name for i in body if i.kind == "parameter"}
    total = 0
    for place, operand in enumerate(kernel.operands):
        if operand in by_name:
            whole = _bytes(by_name[operand])
            readers = [i for i in body if parameters.get(str(place)) in i.operands]
            slices_alone = readers and all(i.kind in ("slice", "dynamic-slice") for i in readers)
            total += min(whole, sum(map(_bytes, readers))) if slices_alone else whole
    return total


def _arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(kind, tuple(map(int, filter(None, sides.split(","))))) for kind, sides in _ARRAY.findall(text)]


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without regard to the order of its dimensions and to those of one."""
    return tuple(sorted(side for side in shape if side != 1))
