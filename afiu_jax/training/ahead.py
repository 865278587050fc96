"""A step's program, compiled while the weights are drawn.

Both take seconds for a large network, and neither needs the other: the compiler, or the reading of what it made for an
earlier run, and NumPy, which draws, let other threads run meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread, get_ident

import jax
from jax import export
from jax.stages import Compiled
from jaxtyping import Array

from afiu_jax.errors import UNSTOPPABLE
from afiu_jax.training.config import batch_shape
from afiu_jax.training.devices import replicated, split
from afiu_jax.training.kept_steps import KeptStep
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import TrainState
from afiu_jax.training.step import Images, Maps, Report, TrainStep, compiler_options, jit_step
from afiu_jax.training.step_files import read_program, write_program

_MISSED = "/jax/compilation_cache/cache_misses"
"""What JAX tells its monitors when it has compiled a program, which was not among those that it keeps."""


@dataclass
class Ahead:
    """What is compiled in the meantime.

    Attributes:
        step: the one to call, None until it is made.
    """

    step: TrainStep | None = None


@contextmanager
def compiled_ahead(
    make_step: Callable[[], TrainStep], state: TrainState, config: Resolved, kept: KeptStep | None = None
) -> Iterator[Ahead]:
    """Compiles a step in another thread, for what a run will call it with; at the end, that is done.

    JAX keeps the program for the call. Whoever leaves early, for an error or Ctrl-C, does not wait for the compiler,
    half a minute if nothing is in the cache; a process that then ends does, unless it does so by ``errors.leave``.

    Args:
        make_step: gives the step, see ``make_train_step``. It is called in that thread, if need be.
        state: shapes and dtypes of the state, see ``abstract_state``.
        config: of the run.
        kept: where the step may lie from an earlier run, or is kept when it is made.

    Raises:
        Exception: what tracing or compiling raised, at the end.
    """
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated()), state)
    batch = [jax.ShapeDtypeStruct((*batch_shape(config), channels), "float32", sharding=split()) for channels in (3, 1)]
    ahead, errors = Ahead(), []

    def compile_step() -> None:
        try:
            if kept:
                ahead.step = _kept_step(kept, make_step, state, batch, deterministic=config["train"]["deterministic"])
            else:
                ahead.step = make_step()
                ahead.step.lower(state, *batch).compile()
        except Exception as error:
            errors.append(error)

    thread = Thread(target=compile_step, name=UNSTOPPABLE)
    thread.start()
    yield ahead
    thread.join()
    if errors:
        raise errors[0]


def _kept_step(
    kept: KeptStep,
    make_step: Callable[[], TrainStep],
    state: TrainState,
    batch: list[jax.ShapeDtypeStruct],
    *,
    deterministic: bool,
) -> TrainStep:
    """The step as an earlier run has left it, else as it is made now and kept; compiled.

    Of other devices than a CPU the trace alone is kept: their programs depend on drivers, as JAX knows.
    """
    found = kept.read()
    if isinstance(found, Compiled):
        return _on_trees(found, state)
    trace = found or _traced(make_step, state, batch)
    if trace is None:
        step = make_step()
        step.lower(state, *batch).compile()
        return step
    step = jit_step(_on_trees(trace.call, state), deterministic=deterministic)
    lowered = step.lower(state, *batch)
    path = None
    if jax.default_backend() == "cpu":
        path = kept.program_of(lowered.as_text(), compiler_options(deterministic=deterministic))
        if program := read_program(path):
            kept.keep(trace, path)
            return _on_trees(program, state)
    with _misses() as misses:
        program = lowered.compile()
    # A program takes no state that lies otherwise on the devices than the first one does.
    is_for_all = all(sharding.is_fully_replicated for sharding in jax.tree.leaves(program.output_shardings))
    is_kept = path and misses and is_for_all and write_program(path, program)
    if is_kept or found is None:
        kept.keep(trace, path if is_kept else None)
    return step


def _traced(
    make_step: Callable[[], TrainStep], state: TrainState, batch: list[jax.ShapeDtypeStruct]
) -> export.Exported | None:
    """The step on leaves; None if JAX cannot export it, or if it is not one for all steps of a run."""
    leaves, tree = jax.tree.flatten((state, *batch))
    step = make_step()

    def on_leaves(*leaves: Array) -> list[Array]:
        found = step.__wrapped__(*jax.tree.unflatten(tree, leaves))
        if jax.tree.structure(found) != _results(state) or _kinds(found[0]) != _kinds(state):
            raise TypeError("the next step is another function: of other trees, shapes or dtypes")
        return jax.tree.leaves(found)

    try:
        # What is read back is what later runs will have: the same program, to the last name.
        return export.deserialize(export.export(jax.jit(on_leaves))(*leaves).serialize())
    except Exception:  # what cannot be exported, as callbacks into Python, can be traced; a fault is raised again
        return None


def _on_trees(step: Callable[..., list[Array]], state: TrainState) -> TrainStep:
    """A step on leaves as one on states."""
    results = _results(state)

    # Its name is the program's. Of a step that JAX has from elsewhere, the program could not be written here.
    def kept_train_step(*arguments: TrainState | Images | Maps) -> tuple[TrainState, Report]:
        return jax.tree.unflatten(results, step(*jax.tree.leaves(arguments)))

    return kept_train_step


def _results(state: TrainState) -> jax.tree_util.PyTreeDef:
    return jax.tree.structure((state, Report(0, 0)))


def _kinds(state: TrainState) -> list[tuple]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]


@contextmanager
def _misses() -> Iterator[list[str]]:
    """Grows when this thread compiles a program that JAX did not have."""
    misses, thread = [], get_ident()

    def note(event: str, **_: object) -> None:
        if event == _MISSED and get_ident() == thread:
            misses.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield misses
    finally:
        jax.monitoring.unregister_event_listener(note)
