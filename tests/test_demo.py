"""The README's first command."""

import numpy as np
from conftest import run_command
from PIL import Image


def test_demo_trains_three_stages_and_says_where_the_pictures_are(tmp_path):
    """With two steps a stage; `test_slow.py` runs all of them."""
    done = run_command("-m", "afiu_jax.cli", "demo", "--out", tmp_path, "--steps", "2", timeout=500)
    assert done.returncode == 0, done.stderr
    for title in ("SOD", "DBD from SOD", "DBD from scratch"):
        assert title in done.stdout
    for name in ("panel.png", "loss.png"):
        assert name in done.stdout
        assert np.asarray(Image.open(tmp_path / name)).std() > 10
    assert {"sod", "dbd", "dbd-scratch"} <= {p.name for p in tmp_path.iterdir()}
