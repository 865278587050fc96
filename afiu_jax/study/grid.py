"""Which runs a study consists of: a cell for every network, start and seed, and the SOD runs that cells share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from ml_collections import ConfigDict

from afiu_jax.errors import UserError
from afiu_jax.report.published import cells as published_cells
from afiu_jax.study.generated import Generated, generated
from afiu_jax.study.strategies import Strategy, read_strategies
from afiu_jax.training.config import resolve
from afiu_jax.training.schema import Resolved
from input_pipeline.paths import at_home
from input_pipeline.records import Meaning
from input_pipeline.sources import Spec, describe

PRETRAINING = "sod-pretraining"


@dataclass(frozen=True)
class Job:
    """A run of a study.

    Attributes:
        network: key of the network.
        start: key of the strategy, or ``sod-pretraining``.
        seed: of initial weights and of the order of the data.
        config: resolved configuration.
        weights: file, run or name of the network that it begins with, if one is given.
        needs: the SOD run with whose best checkpoint it begins, if any.
    """

    network: str
    start: str
    seed: int
    config: Resolved
    weights: str | None = None
    needs: "Job | None" = None

    @property
    def name(self) -> str:
        """Its place in the study's folder, and what it is called: ``u2netp/scratch-seed0``."""
        return f"{self.network}/{self.start}-seed{self.seed}"

    def matches(self, pattern: str) -> bool:
        """Whether a pattern of a shell means it, with its seed or without."""
        return fnmatch(self.name, pattern) or fnmatch(f"{self.network}/{self.start}", pattern)


@dataclass(frozen=True)
class Test:
    """A data set to score on.

    Attributes:
        name: as the study calls it.
        spec: the data; the target is what is blurred.
        source: what it is generated from, or the data itself.
        paper: its name in Table 2 of the paper, if it is there.
    """

    name: str
    spec: Spec
    source: Spec
    paper: str | None


@dataclass(frozen=True)
class Grid:
    """Everything that a study runs.

    Attributes:
        folder: of the study, absolute.
        study: its configuration, of ``config.read_study``.
        strategies: by name.
        cells: in the order in which they should run: seed by seed, so that half a study compares all of its networks.
        tests: by name.
        data: what has to be generated before anything runs.
    """

    folder: Path
    study: Mapping
    strategies: Mapping[str, Strategy]
    cells: tuple[Job, ...] = ()
    tests: Mapping[str, Test] = field(default_factory=dict)
    data: tuple[Generated, ...] = ()

    @property
    def pretrainings(self) -> tuple[Job, ...]:
        """The SOD runs."""
        return tuple({job.needs.name: job.needs for job in self.cells if job.needs}.values())

    def tests_of(self, job: Job) -> Mapping[str, Test]:
        """What a run is scored on: cells on all tests, SOD runs on none."""
        return {} if job.start == PRETRAINING else self.tests

    @property
    def strategies_used(self) -> Mapping[str, Strategy]:
        """Those of the cells, scratch first, then in the order of their table."""
        starts = {job.start for job in self.cells}
        return {name: strategy for name, strategy in self.strategies.items() if name in starts}

    def workdir(self, job: Job) -> Path:
        """The work directory of a run."""
        return self.folder / job.name

    def select(self, patterns: Sequence[str]) -> list[Job]:
        """The runs that patterns name, each after the one that it needs; all of them without patterns.

        Raises:
            UserError: a pattern that names nothing.
        """
        known = [*self.pretrainings, *self.cells]
        for pattern in patterns:
            if not any(job.matches(pattern) for job in known):
                names = ", ".join(job.name for job in known)
                raise UserError(f"--only {pattern}: nothing in the study is called so; there are {names}")
        chosen = [job for job in known if any(map(job.matches, patterns))] if patterns else self.cells
        return list({job.name: job for cell in chosen for job in (cell.needs, cell) if job}.values())


def make_grid(study: Mapping, folder: Path) -> Grid:
    """Resolves every run of a study.

    Args:
        study: of ``config.read_study``.
        folder: of the study, absolute.

    Raises:
        UserError: an unknown network, start or option; a test set that is not the paper's; nothing to run; two sets of
            generated data from folders of one name.
    """
    strategies = read_strategies(study["strategies"])
    data: dict[Path, Generated] = {}

    def shared(spec: Spec, meaning: Meaning) -> Spec:
        if (made := generated(spec, meaning, folder)) is None:
            return spec
        other = data.setdefault(made.path, made)
        if _lies_in(other.source) != _lies_in(spec):  # a folder that has moved is known by its own name
            raise UserError(
                f"{describe(spec)} and {describe(other.source)} would be told apart by nothing but what stands before "
                "the last folder: rename one of them"
            )
        return made.spec

    def resolved(recipe: Mapping, changes: Iterable[Mapping], meaning: Meaning) -> Resolved:
        config = ConfigDict(recipe)
        with config.ignore_type():
            for change in changes:
                config.update(change)
            for part in ("train", "val"):
                config.data[part] = vars(shared(Spec(**config.data[part].to_dict()), meaning))
        return resolve(config)

    cells = []
    for seed, network, start in _places(study, strategies):
        fields, strategy = study["networks"][network], strategies[start]
        own = {"seed": seed, "model": {"name": network}}
        sod = weights = None
        if strategy.origin == "sod":
            sod = Job(network, PRETRAINING, seed, resolved(study["sod"], (fields["sod"], own), "salient"))
        elif strategy.origin == "weights":
            weights = fields["weights"]
        elif strategy.origin == "backbone":
            own["model"]["backbone_weights"] = fields["backbone_weights"]
        config = resolved(study["dbd"], (fields["dbd"], own, strategy.overrides), "blur")
        cells.append(Job(network, start, seed, config, weights, sod))
    tests = {}
    for name, fields in study["tests"].items():
        source = Spec(**{key: value for key, value in fields.items() if key != "paper"})
        tests[name] = Test(name, shared(source, "blur"), source, _known_paper(name, fields["paper"]))
    return Grid(folder, study, strategies, tuple(cells), tests, tuple(data.values()))


def _lies_in(spec: Spec) -> Path | None:
    return spec.path and at_home(spec.path).resolve()


def _places(study: Mapping, strategies: Mapping[str, Strategy]) -> list[tuple[int, str, str]]:
    """Seed, network and start of every cell, in the order of running."""
    places = []
    for network, fields in study["networks"].items():
        given = {"weights": fields["weights"], "backbone": fields["backbone_weights"]}
        for start in fields["starts"] or study["starts"]:
            if start not in strategies:
                raise UserError(f"unknown start {start!r}; there are {', '.join(strategies)}")
            if given.get(strategies[start].origin, True):
                places += [(seed, network, start) for seed in fields["seeds"] or study["seeds"]]
    if not places:
        raise UserError("nothing to run: the study's starts need weights, and none are given")
    return sorted(places, key=lambda place: place[0])


def _known_paper(test: str, paper: str | None) -> str | None:
    known = dict.fromkeys(cell.data for cell in published_cells(2))
    if paper is not None and paper not in known:
        raise UserError(f"tests.{test}.paper is {paper!r}; Table 2 of the paper has {', '.join(known)}")
    return paper
