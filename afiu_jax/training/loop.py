"""A training run from its configuration to its last checkpoint.

Where the weights come from, in this order: the work directory's last checkpoint (resume) > ``--init_from`` >
``config.model.backbone_weights`` > random.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from math import prod
from pathlib import Path

import jax
import optax
from flax import nnx
from rich.console import Console

from afiu_jax.compilation import enable_compilation_cache
from afiu_jax.console import open_console
from afiu_jax.interop.backbone import fill_backbone, read_backbone
from afiu_jax.layers import count_parameters
from afiu_jax.losses import LOSSES
from afiu_jax.memory import is_long_step, keep_freed_memory, meet_memory
from afiu_jax.networks import abstract_model, create_model
from afiu_jax.training.ahead import Ahead, compiled_ahead
from afiu_jax.training.checkpoint import Checkpoints, has_checkpoints
from afiu_jax.training.checks import (
    check_encoder,
    check_schedule,
    check_sizes,
    check_statistics,
    check_workdir,
    other_data,
    require_network,
    warn_of_identities,
    warn_of_start,
)
from afiu_jax.training.config import batch_shape, num_steps, resolve, steps_per_epoch
from afiu_jax.training.devices import check_batch, describe_devices, on_devices, on_every_device, replicated
from afiu_jax.training.finetuning import Frozen, frozen_part
from afiu_jax.training.full_disk import naming_full_disk
from afiu_jax.training.full_memory import naming_full_memory
from afiu_jax.training.hosts import held_by_first, is_first, require_agreement, require_shared
from afiu_jax.training.kept_steps import KeptSteps
from afiu_jax.training.layouts import in_own_layouts
from afiu_jax.training.logging import MetricsLog, SilentLog, keep_old_log, write_json
from afiu_jax.training.optimizer import create_optimizer
from afiu_jax.training.overview import parameter_table
from afiu_jax.training.predict_step import make_predict_step
from afiu_jax.training.run import Outcome, Run, Watched, validation_is_due
from afiu_jax.training.saved import match, transfer
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import TrainState, abstract_state, create_state, graph_of
from afiu_jax.training.statistics import Statistics
from afiu_jax.training.step import TrainStep, make_train_step
from afiu_jax.training.summary import write_summary
from afiu_jax.training.validation import Validation
from afiu_jax.weights import is_shipped, load_weights
from input_pipeline.loader import Batch, Preparation, train_batches
from input_pipeline.paths import at_home
from input_pipeline.records import Source
from input_pipeline.skipping import Faults
from input_pipeline.sources import Spec, describe, odd_masks, open_source
from input_pipeline.transforms import Augment


def train_and_evaluate(
    config, workdir: str | Path, init_from: str | None = None, *, kept_steps: KeptSteps | None = None
) -> Outcome:
    """Trains, validates, logs and saves, or goes on where an earlier call with this work directory stopped.

    Args:
        config: a ConfigDict as ``configs/*.py`` give it.
        workdir: folder of the run; made if need be.
        init_from: the network where this run starts, see ``load_weights``.
        kept_steps: of earlier processes; None: the step is traced.

    Returns:
        How the run ended.

    Raises:
        UserError: a wrong configuration, a work directory of another configuration, one in use or that cannot be
            written, a full disk, too little memory, batches too small to normalise, a checkpoint that does not fit, a
            loss that is not finite.
        DataError: bad data.
    """
    enable_compilation_cache()
    config, workdir = resolve(config), at_home(workdir).absolute()
    name, options = config["model"]["name"], config["model"]["options"]
    abstract = require_network(name, options)
    parameters = count_parameters(abstract)
    # Before the first use of devices, which is next.
    keeps_memory = is_long_step(parameters, prod(batch_shape(config))) and keep_freed_memory()
    console = open_console()
    console.quiet = not is_first()
    check_sizes(config)
    check_batch(config)
    (train, val), left_out = _open_data(config, console)
    # What a resumed run may not change either: where it began, and how many records its order was drawn from.
    config["init_from"] = recorded_start(init_from)
    config["records"] = len(train)
    require_agreement(config)
    require_shared(workdir)
    check_workdir(workdir, config)
    begins = not has_checkpoints(workdir)
    if begins:
        check_schedule(config)
    else:
        for line in other_data(json.loads((workdir / "config.json").read_text(encoding="utf-8")), config):
            console.print(line, style="yellow")
    start = load_weights(init_from) if init_from and begins else None
    backbone, path = None, config["model"]["backbone_weights"]
    if start:
        match(start, abstract, name)
        warn_of_start(start.config, config, console)
    elif path and begins:
        backbone = read_backbone(abstract, path)
    steps = num_steps(config)

    console.print(f"devices: {describe_devices()}   workdir: {workdir}")
    counted_by = "train.num_steps" if config["train"]["num_steps"] else "train.num_epochs"
    console.print(f"length: {steps} steps, {steps / steps_per_epoch(config):.1f} epochs ({counted_by})")
    optimizer, frozen = create_optimizer(config, steps_per_epoch(config)), frozen_part(config)
    check_encoder(abstract, config)
    check_statistics(abstract, frozen, config)
    # What is made so sets ``abstract`` for training, in place; nothing else uses it from there on.
    make_step = partial(_train_step, abstract, optimizer, frozen, config)
    kept_step = kept_steps.find(config, head_start=keeps_memory) if kept_steps else None
    keep_last = config["checkpoint"]["keep_last"]
    with (
        held_by_first(workdir) as hold,
        naming_full_disk(workdir),
        naming_full_memory(config),
        Checkpoints(workdir, keep_last, hold) as checkpoints,
    ):
        check_workdir(workdir, config)  # once more: a run may have ended here in between
        is_done = (checkpoints.latest_step or 0) >= steps
        if is_done:
            compiling = nullcontext(Ahead(make_step()))  # used if the last checkpoint is damaged
        else:
            compiling = compiled_ahead(make_step, abstract_state(abstract, optimizer), config, kept_step)
        with compiling as ahead:
            model = create_model(name, rngs=nnx.Rngs(config["seed"]), **options)
            console.print(parameter_table(model, name))
            if start:
                report = transfer(start, model, name)
                console.print(f"initial weights: {start.path} (step {start.step}): {report.describe()}")
                warn_of_identities(model, console)
            elif backbone:
                loaded = fill_backbone(model, backbone)
                console.print(f"initial weights of the backbone: {path}: loaded {loaded} arrays")
            state = on_every_device(create_state(model, optimizer))
            in_use = graph_of(model, training=False)
            del model, start, backbone  # the model's arrays are the state's now, and a step gives their memory away
            position = 0
            if checkpoints.latest_step is not None:
                state, position, damaged = checkpoints.restore(state)
                for line in damaged:
                    console.print(f"warning: {line}", style="yellow")
                console.print(f"resumed at step {position} of {steps}")
            batches = _train_batches(train, config, position)
            first = [next(batches)] if position < steps else []  # wrong data is told before the compiler is done
            if keeps_memory and not is_done and jax.local_device_count() == 1:
                meet_memory(2 * 4 * parameters)  # for gradients and for kernels as products take them
        train_step = in_own_layouts(ahead.step) if config["train"]["layouts"] else ahead.step
        is_due = validation_is_due(config, checkpoints, position, steps)
        if position >= steps and not is_due:
            console.print(f"nothing to do: {workdir} is at step {position} of {steps}")
            return Outcome(position, steps, None, None)
        if is_first():
            if checkpoints.latest_step is None and (kept := keep_old_log(workdir)):
                console.print(f"the log of an earlier run, of which there is no checkpoint, is {kept} now")
            write_json(workdir / "config.json", config)
        deterministic = config["train"]["deterministic"]
        validation = Validation(val, config, make_predict_step(in_use, deterministic=deterministic))
        log = MetricsLog(workdir, position, config["logging"]["tensorboard"], is_due) if is_first() else SilentLog()
        try:
            renew = _renewal(train, config)
            run = Run(config, console, train_step, renew, validation, checkpoints, log, steps)
            outcome = run(state, chain(first, batches), position)
            if is_first() and (found := write_summary(workdir, outcome.step, steps, left_out)):
                console.print(found, style="yellow")
            return outcome
        finally:
            log.close()


def recorded_start(init_from: str | None) -> str | None:
    """Where a run began, as its configuration keeps it: a name as it is, a path in full."""
    if init_from is None or is_shipped(init_from):
        return init_from
    return str(at_home(init_from).absolute())


def _train_step(
    abstract: nnx.Module, optimizer: optax.GradientTransformation, frozen: Frozen, config: Resolved
) -> TrainStep:
    train = config["train"]
    return make_train_step(
        graph_of(abstract, training=True, frozen=frozen, norm_groups=train["norm_groups"]),
        LOSSES[config["loss"]["name"]],
        optimizer,
        seed=config["seed"],
        frozen=frozen,
        accumulate=train["accumulate"],
        skip_nonfinite=train["nonfinite"] == "skip",
        remat=train["remat"],
        deterministic=train["deterministic"],
        layouts=train["layouts"],
        place=replicated(),
        tf32=train["tf32"],
    )


def _open_data(config: Resolved, console: Console) -> tuple[list[Source], dict[str, Faults]]:
    """Data to train and to validate on, and what was left out of each."""
    positive, sources, skip = config["task"]["positive"], [], config["data"]["on_error"] == "skip"
    left_out = {"train": {}, "val": {}}
    for part, faults in left_out.items():
        spec = Spec(**config["data"][part])
        source = open_source(spec, positive, seed=config["seed"], faults=faults if skip else None)
        console.print(f"{part}: {describe(spec)}, {len(source)} images; 1 = {positive}")
        if faults:
            example = next(iter(faults.values()))
            console.print(f"warning: {len(faults)} left out of data.{part}, for instance: {example}", style="yellow")
        for line in odd_masks(source, spec):
            console.print(f"warning: {line}", style="yellow")
        sources.append(source)
    return sources, left_out


def _renewal(source: Source, config: Resolved) -> Callable[[TrainState, Watched], TrainState]:
    """Puts the statistics of ``train.statistics_batches`` training batches, always the same ones, into a state."""
    count, model = config["train"]["statistics_batches"], config["model"]
    if not count:
        return lambda state, watched: state
    abstract = abstract_model(model["name"], **model["options"])
    train = config["train"]
    statistics = Statistics(abstract, frozen_part(config), train["deterministic"], train["tf32"])

    def renew(state: TrainState, watched: Watched) -> TrainState:
        batches = islice(_train_batches(source, {**config, "seed": config["seed"] + 1}, 0), count)
        return statistics(state, (on_devices(batch)[0] for batch in watched(batches)))

    return renew


def _train_batches(source: Source, config: Resolved, position: int) -> Iterator[Batch]:
    data = config["data"]
    return train_batches(
        source,
        Preparation.of(config["data"]),
        batch_size=config["train"]["batch_size"],
        augment=Augment(
            data["vertical_flip"], data["horizontal_flip"], data["color_jitter"], data["rotation"], data["random_crop"]
        ),
        seed=config["seed"],
        start_step=position,
        workers=data["workers"],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
