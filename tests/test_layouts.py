"""A state that lies in memory as a GPU's compiler would have it: in one step, and through a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from orbax.checkpoint._src.handlers.base_pytree_checkpoint_handler import BasePyTreeCheckpointHandler
from pocket import pocket_config

from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.layouts import in_own_layouts

OUTPUTS_FIRST = (3, 0, 1, 2)
"""How cuDNN takes kernels: output channels, rows, columns, input channels."""


def test_a_state_in_other_layouts_is_not_kept_beside_the_new_one():
    """Two copies of weights and moments would be the memory that the option is to save."""
    column_by_column = Format(Layout((1, 0)), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    given = {"in_shardings": (column_by_column, None), "out_shardings": (column_by_column, None)}
    step = in_own_layouts(jax.jit(lambda state, x: (state + x, x), donate_argnums=0, **given))
    first = jnp.ones((4, 8))
    second, _ = step(first, jnp.ones(()))
    assert second.format.layout.major_to_minor == (1, 0)
    assert first.is_deleted()
    np.testing.assert_array_equal(second, 2 * np.ones((4, 8)))


def test_a_run_in_cudnns_layouts_is_validated_saved_resumed_and_transferred(pocket, pocket_run, tmp_path, monkeypatch):
    """Left to choose, a CPU's compiler keeps the usual order; so it is given cuDNN's.

    It is saved as from a GPU, through pinned memory of the host.
    """
    orders, saved_from, usual_put = set(), set(), jax.device_put
    usual_init = BasePyTreeCheckpointHandler.__init__

    def noted_put(array, place=None, **options):
        if getattr(place, "memory_kind", None) == "pinned_host" and array.ndim == 4:
            saved_from.add(array.format.layout.major_to_minor)
        return usual_put(array, place, **options)

    def init_as_on_gpus(self, *given, **named):
        usual_init(self, *given, **{**named, "enable_pinned_host_transfer": True})

    monkeypatch.setattr(jax, "device_put", noted_put)
    monkeypatch.setattr(BasePyTreeCheckpointHandler, "__init__", init_as_on_gpus)

    def in_cudnns_layouts(step):
        compiled = None

        def call(state, *batch):
            nonlocal compiled
            if compiled is None:
                formats = jax.tree.map(_cudnns_format, state)
                given = {"in_shardings": (formats, None, None), "out_shardings": (formats, None)}
                compiled = in_own_layouts(jax.jit(step.__wrapped__, donate_argnums=0, **given))
            state, report = compiled(state, *batch)
            orders.update(leaf.format.layout.major_to_minor for leaf in jax.tree.leaves(state) if leaf.ndim == 4)
            return state, report

        return call

    monkeypatch.setattr(loop, "in_own_layouts", in_cudnns_layouts)
    options = {"train__layouts": True, "train__statistics_batches": 2}
    loop.train_and_evaluate(pocket_config(**options, train__num_steps=4), tmp_path / "run")
    loop.train_and_evaluate(pocket_config(**options), tmp_path / "run")
    assert orders == saved_from == {OUTPUTS_FIRST}
    usual, other = (load_model(workdir / "checkpoints" / "6") for workdir in (pocket_run, tmp_path / "run"))
    kept = [name for name in usual.params if name != "stem.bias"]  # has no gradient: Adam makes steps of its rounding
    assert len(kept) == 5
    for name in kept:
        np.testing.assert_allclose(other.params[name], usual.params[name], rtol=1e-4, atol=1e-6, err_msg=name)
    loop.train_and_evaluate(pocket_config(train__num_steps=1), tmp_path / "next", init_from=str(tmp_path / "run"))


def _cudnns_format(array):
    return Format(Layout(OUTPUTS_FIRST if array.ndim == 4 else tuple(range(array.ndim))), array.sharding)
