"""The README's first command."""

import numpy as np
from PIL import Image
from pocket import pocket_config
from typer.testing import CliRunner

from afiu_jax import cli, demo


def test_demo_trains_three_stages_and_says_where_the_pictures_are(pocket, tmp_path, monkeypatch, capsys):
    """With two steps a stage, of a tiny network; `test_slow.py` runs the command as it is."""
    monkeypatch.setattr(demo, "load_config", lambda name, variant: pocket_config(name))
    assert demo.run_demo(tmp_path, steps=2) is None
    said = capsys.readouterr().out
    for title in ("SOD", "DBD from SOD", "DBD from scratch"):
        assert title in said
    for name in ("panel.png", "loss.png"):
        assert name in said
        assert np.asarray(Image.open(tmp_path / name)).std() > 10
    assert {"sod", "dbd", "dbd-scratch"} <= {p.name for p in tmp_path.iterdir()}


def test_the_command_takes_folder_and_steps(tmp_path, monkeypatch):
    """What it does with them is the test above."""
    asked = []
    monkeypatch.setattr(demo, "run_demo", lambda *arguments: asked.append(arguments))
    assert CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path), "--steps", "3"]).exit_code == 0
    assert asked == [(tmp_path, 3)]
