"""How the convolutions of a network hang together, read from its traced program rather than from its code.

A graph that was exported with its names lost can be told apart from another network by this alone: each convolution
comes after the same ones as in ours.
"""

from dataclasses import dataclass

from flax import nnx
from jax.extend.core import Jaxpr, Literal

from afiu_jax.networks.program import evaluation_program, inner_program

_LAYOUT_ONLY = {"convert_element_type", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "copy"}


@dataclass
class Convolution:
    """One convolution of a network.

    Attributes:
        path: our dotted path of the module.
        before: paths of the convolutions whose outputs reach it without passing through another one.
        norm: path of the batch normalisation of its output, if there is one.
    """

    path: str
    before: frozenset[str]
    norm: str | None = None


def convolutions(model: nnx.Module, side: int) -> list[Convolution]:
    """The convolutions of a network in the order in which it computes them.

    Args:
        model: the network; abstract or not.
        side: of the square image to trace with; one that the network takes.
    """
    program, state = evaluation_program(model, side)
    inputs = [_Value(parameter=".".join(map(str, path))) for path, _ in nnx.to_flat_state(state)]
    found: list[Convolution] = []
    _walk(program, [*inputs, _Value()], found)
    return found


@dataclass(frozen=True)
class _Value:
    """What is known of an array of the program.

    Attributes:
        parameter: path of the parameter that it is, up to its layout.
        output: the convolution whose output it is, its bias added.
        before: the convolutions that reach it.
    """

    parameter: str | None = None
    output: Convolution | None = None
    before: frozenset[str] = frozenset()

    @property
    def module(self) -> str:
        return (self.parameter or "").rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return (self.parameter or "").rpartition(".")[2]


def _walk(program: Jaxpr, inputs: list[_Value], found: list[Convolution]) -> list[_Value]:
    """Follows a program from what is known of its inputs to what that makes of its outputs."""
    known = dict(zip(program.invars, inputs, strict=True))
    value_of = lambda atom: _Value() if isinstance(atom, Literal) else known.get(atom, _Value())  # noqa: E731
    for equation in program.eqns:
        values = [value_of(atom) for atom in equation.invars]
        if inner := inner_program(equation):
            outputs = _walk(inner, values, found)
        else:
            outputs = [_apply(equation.primitive.name, values, found)] * len(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [value_of(atom) for atom in program.outvars]


def _apply(primitive: str, values: list[_Value], found: list[Convolution]) -> _Value:
    first, *others = values or [_Value()]
    if primitive == "conv_general_dilated":
        convolution = Convolution(others[0].module, first.before)
        found.append(convolution)
        return _Value(output=convolution, before=frozenset({convolution.path}))
    if primitive in _LAYOUT_ONLY:
        return first
    if first.output and others:
        if primitive == "add" and others[0].leaf == "bias" and others[0].module == first.output.path:
            return first
        if primitive == "mul" and others[0].leaf == "scale":
            first.output.norm = others[0].module
    before = frozenset().union(*(value.before for value in values))
    # A normalisation's scale over the root of its variance goes by the scale's name.
    return _Value(parameter=first.parameter if primitive == "mul" else None, before=before)
