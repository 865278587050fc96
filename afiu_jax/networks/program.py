"""What a network computes, read from its traced program rather than from its code."""

import math

import jax
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal


def evaluation_program(model: nnx.Module, side: int) -> tuple[Jaxpr, nnx.State]:
    """What a network computes in use for one image, and its abstract state.

    Args:
        model: the network, which is left as it is; abstract or not.
        side: of the square image to trace with, in pixels; one that the network takes.

    Returns:
        The program, whose inputs are the arrays of the state in order and then the image; and that state.
    """
    graph, state = nnx.split(model)
    state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
    model = nnx.merge(graph, state)
    model.eval()
    graph = nnx.graphdef(model)
    image = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    closed = jax.make_jaxpr(lambda state, image: nnx.merge(graph, state, copy=True)(image))(state, image)
    return closed.jaxpr, state


def inner_program(equation: JaxprEqn) -> Jaxpr | None:
    """The program that an equation calls with its own operands, if it is such a call."""
    for parameter in equation.params.values():
        if isinstance(parameter, ClosedJaxpr) and len(parameter.jaxpr.invars) == len(equation.invars):
            return parameter.jaxpr
    return None


def multiply_adds(model: nnx.Module, side: int) -> int:
    """Multiplications, each with its addition, of the convolutions and matrix products for one image.

    This is what papers on salient objects call FLOPs. Our resizes are products with constant matrices; they do not
    count, as they would not in another program.

    Arguments as of ``evaluation_program``.
    """
    program, _ = evaluation_program(model, side)
    return _count(program, [True] * len(program.invars))[0]


def _count(program: Jaxpr, computed: list[bool]) -> tuple[int, list[bool]]:
    """Multiply-adds of a program, and which of its outputs depend on the inputs that are not constant."""
    known = {atom for atom, depends in zip(program.invars, computed, strict=True) if depends}
    depends = lambda atom: not isinstance(atom, Literal) and atom in known  # noqa: E731
    total = 0
    for equation in program.eqns:
        operands = [depends(atom) for atom in equation.invars]
        if inner := inner_program(equation):
            count, results = _count(inner, operands)
        else:
            count = _multiply_adds(equation) if all(operands) else 0
            results = [any(operands)] * len(equation.outvars)
        total += count
        known.update(atom for atom, result in zip(equation.outvars, results, strict=True) if result)
    return total, [depends(atom) for atom in program.outvars]


def _multiply_adds(equation: JaxprEqn) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return equation.outvars[0].aval.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        per_pixel = math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        # Zeros that a transposed convolution puts between the pixels are not multiplied.
        return equation.outvars[0].aval.size * per_pixel // math.prod(equation.params["lhs_dilation"])
    return 0
