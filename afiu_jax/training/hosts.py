"""A run that several processes share, one on each machine: joining them, who writes, and stopping together.

Every process runs the same program on its part of each batch. The first one talks and writes the log; checkpoints are
written by all, so that the work directory must be one that all of them see.
"""

import hashlib
import json
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from afiu_jax.errors import UserError
from afiu_jax.training.schema import Resolved
from afiu_jax.workdir import Hold, sole_use

_PATIENCE = 10  # seconds that a file server may take to show a new file


def join_hosts(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the processes of a run; does nothing for a run of one. Before anything is computed.

    Args:
        coordinator: address of the first process, ``host:port``; ``auto`` if a scheduler such as Slurm knows all three.
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        UserError: some of the three are missing or impossible; the others cannot be reached.
    """
    if coordinator is None and processes is None and process is None:
        return
    if not jax.config.jax_compilation_cache_dir:
        # Only the first process fills the cache. On machines with one of their own the others would compile what the
        # first one finds there; and compilers for GPUs, which try out algorithms together, may wait for it forever.
        jax.config.update("jax_enable_compilation_cache", False)
    # It would take SIGTERM for itself, where a run saves its state and stops.
    jax.config.update("jax_enable_preemption_service", False)
    automatic = coordinator == "auto" and processes is None and process is None
    if not automatic:
        if None in (coordinator, processes, process) or coordinator == "auto":
            raise UserError("--coordinator HOST:PORT, --processes N and --process I belong together: pass all three")
        if not 0 <= process < processes:
            raise UserError(f"--process is {process}; it must lie in 0…{processes - 1}, --processes being {processes}")
    try:
        if automatic:
            jax.distributed.initialize()
        else:
            # Inside a job of Slurm, JAX would give each process one device of its machine, whatever it is told here.
            jax.distributed.initialize(coordinator, processes, process, cluster_detection_method="deactivate")
    except (RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot join the other processes at {coordinator} ({why} …): start all of them with the same address, "
            "one that the first process can open and the others can reach"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that talks and writes."""
    return jax.process_index() == 0


@contextmanager
def held_by_first(workdir: Path) -> Iterator[Hold | None]:
    """The first process holds the run's folder for all of them, see ``sole_use``; the others get None.

    Raises:
        UserError: it cannot have it; in all processes, as the others would wait for it otherwise.
    """
    with ExitStack() as held:
        hold = refusal = None
        if is_first():
            try:
                hold = held.enter_context(sole_use(workdir))
            except UserError as error:
                refusal = error
        if jax.process_count() > 1 and not multihost_utils.broadcast_one_to_all(np.bool_(refusal is None)):
            refusal = refusal or UserError(f"the first process cannot work in {workdir}, and says why")
        if refusal:
            raise refusal
        yield hold


def require_agreement(config: Resolved) -> None:
    """Refuses a run of several processes that were not all started with the same configuration and data.

    They would train together all the same, as no configuration says. Paths may differ from machine to machine.

    Raises:
        UserError: they differ.
    """
    if jax.process_count() == 1:
        return
    told = hashlib.sha256(json.dumps(_without_paths(config), sort_keys=True).encode()).digest()
    everyone = np.asarray(multihost_utils.process_allgather(np.frombuffer(told[:4], np.int32)))
    if len(np.unique(everyone)) > 1:
        raise UserError(
            "the processes of this run have different configurations, or data of different lengths: start all with the "
            "same flags, and the same data on every machine"
        )


def require_shared(workdir: Path) -> None:
    """Refuses a work directory that not all processes of a run see: checkpoints would never be whole.

    Raises:
        UserError: one of them does not see what the first one writes there.
    """
    if jax.process_count() == 1:
        return
    number = int(multihost_utils.broadcast_one_to_all(np.int32(secrets.randbits(31))))
    token = workdir / f".seen-{number}"
    if is_first():
        with suppress(OSError):  # then nobody sees it
            workdir.mkdir(parents=True, exist_ok=True)
            token.touch()
    multihost_utils.sync_global_devices("a file is in the work directory")
    deadline = time.monotonic() + _PATIENCE
    while not (seen := token.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    everyone = multihost_utils.process_allgather(np.int32(seen))
    if is_first():
        with suppress(OSError):
            token.unlink(missing_ok=True)
    if not np.all(everyone):
        raise UserError(
            f"not every process of this run sees what the first one writes in {workdir}: pass a --workdir that all of "
            "them share, on a file server"
        )


def _without_paths(part: object) -> object:
    if not isinstance(part, dict):
        return part
    paths = ("path", "init_from", "backbone_weights")
    return {key: _without_paths(value) for key, value in part.items() if key not in paths}


def agreed_signal(own: signal.Signals | None, step: int, every: int) -> signal.Signals | None:
    """The signal on which all processes stop after this step, if any of them was sent one.

    Processes that stopped at different steps would wait for each other forever. Asking costs a message, so that
    several processes ask only at every ``every``-th step; a run of one knows at once.
    """
    if jax.process_count() == 1:
        return own
    if step % every:
        return None
    found = int(np.max(multihost_utils.process_allgather(np.int32(own or 0))))
    return signal.Signals(found) if found else None
