"""The loop of a run: steps, and what happens between them.

A signal is answered within seconds whatever the run is doing. Before its first step there is nothing to save, and the
process ends. During a validation, the step is saved without scores, and the run that resumes there validates it first,
so that it ends as if nobody had stopped it. Several processes must stop together: they finish a validation, and
answer at the next step that is logged.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from afiu_jax.garbage import settle
from afiu_jax.training.checkpoint import Checkpoints
from afiu_jax.training.devices import on_devices
from afiu_jax.training.hosts import agreed_signal
from afiu_jax.training.logging import Clock, LiveLine, MetricsLog, SilentLog
from afiu_jax.training.schema import Resolved
from afiu_jax.training.signals import Stopped, StopRequest
from afiu_jax.training.state import TrainState
from afiu_jax.training.step import TrainStep
from afiu_jax.training.validation import Validation
from afiu_jax.training.watch import Watch
from input_pipeline.loader import Batch

Watched = Callable[[Iterable], Iterator]
"""Hands on what it is given, one by one, until a signal comes; see ``StopRequest.watched``."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: steps done.
        num_steps: steps that the configuration asks for.
        scores: the last validation's ``mae`` and ``max_f``; None if none ran.
        stopped_by: name of the signal that stopped it early, or None.
    """

    step: int
    num_steps: int
    scores: dict[str, float] | None
    stopped_by: str | None


@dataclass
class Run:
    """What the loop works with.

    Attributes:
        config: the run's configuration.
        console: where its progress is told.
        train_step: one step.
        renew_statistics: the state with batch statistics estimated anew; reads its batches through what it is given.
        validation: scores of a state.
        checkpoints: where states are kept.
        log: where scalars go.
        num_steps: steps of the whole run.
    """

    config: Resolved
    console: Console
    train_step: TrainStep
    renew_statistics: Callable[[TrainState, Watched], TrainState]
    validation: Validation
    checkpoints: Checkpoints
    log: MetricsLog | SilentLog
    num_steps: int

    def __call__(self, state: TrainState, batches: Iterator[Batch], position: int) -> Outcome:
        """Runs from ``position`` to the end, or until a signal asks to stop."""
        batch_size, every = self.config["train"]["batch_size"], self._rhythm()
        line = LiveLine(self.num_steps, position, batch_size, self.config["records"], self.console)
        watch = Watch(self.config, self.checkpoints, self.log, self.console)
        step, stop, stopped_by, scores, unchecked = position, StopRequest(), None, None, None
        try:
            with ExitStack() as listening:
                if validation_is_due(self.config, self.checkpoints, position, self.num_steps):
                    with stop:
                        state, scores = self._validate(state, position, watch, stop)
                    stopped_by = stop.signal if scores is None else None
                clock = Clock(position)
                while step < self.num_steps and stopped_by is None:
                    step += 1
                    batch = next(batches)
                    state, report = self.train_step(state, *on_devices(batch))
                    if step == position + 1:  # the step is compiled, and there is something to save from now on
                        listening.enter_context(stop)
                        settle()
                    if unchecked:  # one step late, so that the devices never wait for the host
                        watch.finite(*unchecked)
                    watch.missing(step, "train", batch["skipped"])
                    unchecked = (step, report, batch["id"])
                    stopped_by = agreed_signal(stop.signal, step, every["logging"])
                    last = step == self.num_steps or stopped_by is not None
                    line.advance(step)
                    # The log has the same steps wherever a run was stopped; a person sees how it begins and ends, too.
                    logged = step in (1, self.num_steps) or step % every["logging"] == 0
                    if logged or last or step == position + 1:
                        rate = clock.rate(step) * batch_size
                        if watch.finite(*unchecked):
                            loss, norm = float(report.loss), float(report.gradient_norm)
                            if logged:
                                self.log.scalars(step, loss=loss, gradient_norm=norm, images_per_second=rate)
                            line.say(step, loss, rate)
                    if stopped_by is None and (step == self.num_steps or step % every["eval"] == 0):
                        watch.finite(*unchecked)
                        clock.pause()
                        # Training goes on with new statistics, as a run does that resumes here; no gradient depends
                        # on them.
                        state, scores = self._validate(state, step, watch, stop)
                        stopped_by = stop.signal if scores is None else None
                        clock.resume()
                    elif last or step % every["checkpoint"] == 0:
                        watch.finite(*unchecked)
                        self.checkpoints.save(state, self.config, None)
                self.checkpoints.wait()  # a second signal must not find it half-written
        finally:
            line.stop()
        if stopped_by:
            self.console.print(f"{stopped_by.name}: saved step {step}; the same command goes on from there")
        return Outcome(step, self.num_steps, scores, stopped_by.name if stopped_by else None)

    def _rhythm(self) -> dict[str, int]:
        return {name: self.config[name]["every_steps"] for name in ("logging", "eval", "checkpoint")}

    def _validate(
        self, state: TrainState, step: int, watch: Watch, stop: StopRequest
    ) -> tuple[TrainState, dict[str, float] | None]:
        """Saves the state with new statistics and its scores; as it is and without any if a signal comes meanwhile."""
        try:
            renewed = self.renew_statistics(state, stop.watched)
            scores = self.validation.scores(renewed, stop.watched)
        except Stopped:
            self.checkpoints.save(state, self.config, None)
            return state, None
        watch.missing(step, "val", self.validation.skipped)
        self.log.scalars(step, **{f"val_{name}": value for name, value in scores.items()})
        if self.config["logging"]["tensorboard"] and self.config["logging"]["panels"]:
            self.log.panel(step, self.validation.panel(renewed))
        self.console.print(f"step {step}: validation MAE {scores['mae']:.4f}, max F {scores['max_f']:.4f}")
        self.checkpoints.save(renewed, self.config, scores)
        return renewed, scores


def validation_is_due(config: Resolved, checkpoints: Checkpoints, step: int, num_steps: int) -> bool:
    """Whether a signal stopped a run in or before the validation of the step where it resumes."""
    validates = step == num_steps or (step > 0 and step % config["eval"]["every_steps"] == 0)
    return validates and not checkpoints.has_scores(step)
