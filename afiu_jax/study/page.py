"""A study's files: ``report.html``, which holds all that it shows, its figures, its tables and its numbers."""

import json
from collections.abc import Mapping
from pathlib import Path

from flax.traverse_util import flatten_dict
from markupsafe import Markup
from matplotlib.figure import Figure

from afiu_jax.report.formats import FORMATS
from afiu_jax.report.page import Content, Method, Show, VisualGrid, template, visual_grid
from afiu_jax.report.provenance import versions
from afiu_jax.report.runs import without_home
from afiu_jax.report.style import inline_svg, save
from afiu_jax.report.tables import Table
from afiu_jax.study import figures as draw
from afiu_jax.study.differences import RESAMPLES
from afiu_jax.study.grid import Test
from afiu_jax.study.results import Results, to_csv, to_json
from afiu_jax.study.tables import failures, paper_table, starts_table
from afiu_jax.training.logging import duration
from input_pipeline.folder import read
from input_pipeline.records import DataError, Record
from input_pipeline.sources import describe, open_source

_ORIGINS = {
    "random": "random",
    "backbone": "random, with ImageNet's backbone",
    "sod": "the SOD run of the same network and seed, its best checkpoint",
    "weights": "given",
}


def write_study(results: Results, command: str) -> Path:
    """Writes everything that can be said of a study so far into its folder.

    Args:
        results: the numbers.
        command: the command line that the page quotes.

    Returns:
        The page.
    """
    folder, tests = results.grid.folder, list(results.grid.tests.values())
    folder.mkdir(parents=True, exist_ok=True)
    paper, starts = paper_table(results), starts_table(results)
    for stem, table in (("table2", paper), ("starts", starts)):
        for ending, text in formatted(table).items():
            (folder / f"{stem}.{ending}").write_text(text, encoding="utf-8")
    numbers = without_home(json.dumps(to_json(results), indent=1, ensure_ascii=False))
    (folder / "results.json").write_text(numbers + "\n", encoding="utf-8")
    (folder / "results.csv").write_text(to_csv(results), encoding="utf-8")
    drawings, remarks, grids = _figures(results), [], {}
    for test in tests:
        try:
            grids |= _grid(results, test)
        except DataError as error:
            remarks.append(f"The photos of {test.name} cannot be shown: {without_home(str(error))}")
    saved = {**drawings, **{f"comparison-{name}": grid.figure for name, grid in grids.items()}}
    for name, figure in saved.items():
        save(figure, folder / "figures" / name)
    page = folder / "report.html"
    text = template("study.html").render(
        generator="afiu study",
        title=results.grid.study["title"],
        lede=_lede(results),
        remarks=remarks,
        paper=paper,
        starts=starts,
        groups=list(results.networks),
        networks=results.networks,
        tests=[_test(results, test) for test in tests],
        other_data=any(test.paper is None for test in tests),
        seeds=_seeds(results),
        spread=any(len(entry.cells) > 1 for entry in results.entries),
        resamples=RESAMPLES,
        strategies=_strategies(results),
        figures={name: Markup(inline_svg(figure, name, name.replace("-", " "))) for name, figure in drawings.items()},
        grids=grids,
        cells=[*results.pretrainings, *results.cells],
        failures=[why for entry in results.entries if (why := failures(entry))],
        duration=lambda seconds: duration(seconds) if seconds else "",
        endings=list(FORMATS),
        protocol=_protocol(results),
        versions=versions(),
        command=without_home(command),
        configuration=without_home(json.dumps(results.grid.study, indent=2, ensure_ascii=False)),
    )
    page.write_text(text, encoding="utf-8")
    return page


def formatted(table: Table) -> dict[str, str]:
    """A table in every format, by the ending of its file; the second best is not marked where two are compared."""
    return {
        ending: render(table) if ending == "csv" else render(table, second=False) for ending, render in FORMATS.items()
    }


def _figures(results: Results) -> dict[str, Figure]:
    figures = {}
    for test in results.grid.tests:
        if figure := draw.difference_figure(results, test):
            figures[f"difference-{test}"] = figure
        figures |= {f"{kind}-{test}": figure for kind, figure in draw.curve_figures(results, test).items()}
    for network in results.networks:
        found = draw.convergence_figures(results, network)
        figures |= {f"{kind}-{network}": figure for kind, figure in found.items()}
    return figures


def _grid(results: Results, test: Test) -> dict[str, VisualGrid]:
    """Photo, mask and the map of every start; nothing as long as nothing was scored."""
    entries = [entry for entry in results.entries if entry.scored(test.name)]
    if not entries:
        return {}
    source = open_source(test.spec, "blur")
    places = {picture["id"]: place for place, picture in enumerate(entries[0].scored(test.name)[0].pictures)}
    methods = []
    for entry in entries:
        first = next(cell for cell in entry.cells if test.name in cell.scores)
        maps = results.grid.workdir(first.job) / "maps" / test.name
        methods.append(Method(draw.mean_of_seeds(entry, test.name), _maps(maps)))

    def record(image: str) -> Record:
        found = source[places[image]] if places[image] < len(source) else None
        if found is None or found["id"] != image:
            raise DataError(f"{describe(test.spec)} has changed since it was scored")
        return found

    content = Content(
        methods=methods,
        photo=lambda image: record(image)["image"],
        mask=lambda image: record(image)["mask"],
        rows=results.grid.study["rows"],
    )
    grid = visual_grid(content)
    return {test.name: grid} if grid else {}


def _maps(folder: Path) -> Show:
    return lambda image: read(folder / f"{image}.png", "L")


def _lede(results: Results) -> str:
    done = sum(cell.status == "done" for cell in results.cells)
    failed = sum(cell.status == "failed" for cell in results.cells)
    hours = sum(cell.state.seconds for cell in (*results.pretrainings, *results.cells)) / 3600
    of = f"{done} of {len(results.cells)} cells" if done < len(results.cells) else f"All {done} cells"
    bad = f", {failed} failed" if failed else ""
    names = ", ".join(results.networks.values())
    return (
        f"Does pre-training on salient objects help to find defocus blur? {names}; "
        f"{len(results.grid.strategies_used)} ways to start. {of} are done{bad}, in {hours:.1f} hours. "
        "1 = blurred in every score; less is better for MAE, more for max F."
    )


def _seeds(results: Results) -> str:
    counts = sorted({sum(c.status == "done" for c in entry.cells) for entry in results.entries} - {0}) or [0]
    few = f"{counts[0]} seed" + ("" if counts == [1] else "s")
    return few if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _test(results: Results, test: Test) -> dict:
    scored = next((s for entry in results.entries for s in entry.scored(test.name)), None)
    return {
        "name": test.name,
        "description": without_home(describe(test.source)),
        "images": scored.images if scored else None,
    }


def _strategies(results: Results) -> list[dict]:
    return [
        {
            "label": strategy.label,
            "origin": _ORIGINS[strategy.origin],
            "changes": [(".".join(key), value) for key, value in flatten_dict(dict(strategy.overrides)).items()],
        }
        for strategy in results.grid.strategies_used.values()
    ]


def _protocol(results: Results) -> Mapping[str, str]:
    return next(
        (s.protocol for entry in results.entries for test in results.grid.tests for s in entry.scored(test)), {}
    )
