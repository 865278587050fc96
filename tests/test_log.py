"""A run's log: what is read of it, what goes when a run goes on from an earlier step, and what is kept."""

import json
import re
import shutil

from pocket import pocket_config
from rich.console import Console

from afiu_jax.training.logging import LiveLine, MetricsLog, read_metrics
from afiu_jax.training.loop import train_and_evaluate


def test_metrics_past_the_restored_step_are_cut(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    log = MetricsLog(tmp_path, 2, tensorboard=False)
    log.scalars(3, loss=0.5)
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]


def test_lines_of_the_log_that_are_none_are_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n5\n{"loss": 1}\n{"step": 2, "a": "\xff"}\n\xff\n{"step"')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_the_log_of_a_run_whose_checkpoints_are_gone_is_kept(pocket, pocket_run, tmp_path, capsys):
    run = shutil.copytree(pocket_run, tmp_path / "run")
    old = read_metrics(run)
    for expected in (["metrics-1.jsonl"], ["metrics-1.jsonl"], ["metrics-1.jsonl", "metrics-2.jsonl"]):
        if expected[-1] not in [path.name for path in run.glob("metrics-*")]:
            shutil.rmtree(run / "checkpoints")
        train_and_evaluate(pocket_config(), run)
        assert sorted(path.name for path in run.glob("metrics-*")) == expected
    assert [json.loads(line) for line in (run / "metrics-1.jsonl").read_text().splitlines()] == old
    assert capsys.readouterr().out.count("the log of an earlier run, of which there is no checkpoint, is") == 2
    shutil.rmtree(run / "checkpoints")
    begun = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    last = next(i for i, line in enumerate(begun) if "val_mae" in line)
    (run / "metrics.jsonl").write_text("".join(begun[: last + 1]))  # as it is when killed while it saves
    train_and_evaluate(pocket_config(), run)
    assert len(list(run.glob("metrics-*"))) == 2


def test_a_file_has_a_line_for_every_logged_step_whatever_the_environment_says_of_colours(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (tmp_path / "log.txt").open("w", encoding="utf-8") as file:
        line = LiveLine(4, 0, 2, 8, Console(file=file))
        for step in (1, 2):
            line.advance(step)
            line.say(step, 0.5, 3.0)
        line.stop()
    plain = re.sub(r"\x1b\[[\d;]*m", "", (tmp_path / "log.txt").read_text(encoding="utf-8"))
    assert [text.split("  ")[0] for text in plain.splitlines()] == ["step 1/4", "step 2/4"]
