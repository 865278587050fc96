"""Our scores equal PySODMetrics' on real maps; benchmarks/pysodmetrics_scores.py made the reference values."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from afiu_jax.evaluation import evaluate_folder
from afiu_jax.mapfolder import MapFolder

DATA = ROOT.parent / "shared" / "data"
REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "pysodmetrics.json").read_text())
SETS = sorted(set(REFERENCE) - {"versions"})


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
@pytest.mark.parametrize("name", SETS)
def test_scores_equal_pysodmetrics(name):
    dataset, kind = name.rsplit("/", 1)
    if dataset == "pysodmetrics":
        folder = DATA / "metric_fixtures" / "pysodmetrics" / "test_data"
        maps = MapFolder(folder / "preds", folder / "masks")
    else:
        maps = MapFolder(DATA / "sed2" / "pred" / Path(dataset).name, DATA / "sed2" / "masks")
    scores = evaluate_folder(maps, name=name, normalize=kind == "normalized").scores
    assert scores.keys() == REFERENCE[name].keys()
    for key, value in REFERENCE[name].items():
        assert scores[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
def test_reference_equals_the_values_that_pysodmetrics_publishes():
    path = DATA / "metric_fixtures" / "pysodmetrics" / "version_performance.json"
    published = json.loads(path.read_text())["v1_4_3"]  # the newest version that lists them
    names = {
        "MAE": "mae", "Smeasure": "s_measure", "wFmeasure": "weighted_f", "maxFm": "max_f_mean_curve",
        "meanFm": "mean_f", "adpFm": "adaptive_f", "maxEm": "e_measure_max", "meanEm": "e_measure_mean",
        "adpEm": "e_measure_adaptive", "sample_biiou": "iou", "sample_bifm": "f_at_half",
        "sample_bioa": "accuracy",
    }  # fmt: skip
    for theirs, ours in names.items():
        assert REFERENCE["pysodmetrics/normalized"][ours] == pytest.approx(published[theirs], abs=1e-9), theirs
