"""Reading a program compiled for a GPU, and the message where none can be compiled."""

import argparse
import importlib.util
import os
import re
import sys
import time

import jax
import pytest
from conftest import ROOT, run_command

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_step
from gpu_cards import CARDS
from gpu_hlo import read_computations, summarise
from gpu_program import run_step
from gpu_run import Busy, cards

HLO = """\
HloModule jit_step, is_scheduled=true

%fused_transpose (param_0: f32[2,8,8,3]) -> f32[2,3,8,8] {
  %param_0 = f32[2,8,8,3]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = f32[2,3,8,8]{3,2,1,0} transpose(%param_0), dimensions={0,3,1,2}
}

%fused_add (param_0.1: f32[2,4,8,8]) -> f32[2,4,8,8] {
  %param_0.1 = f32[2,4,8,8]{3,2,1,0} parameter(0)
  ROOT %add.1 = f32[2,4,8,8]{3,2,1,0} add(%param_0.1, %param_0.1)
}

ENTRY %main (image: f32[2,8,8,3], kernel: f32[5,5,3,4]) -> f32[2,4,8,8] {
  %image = f32[2,8,8,3]{3,2,1,0} parameter(0)
  %kernel = f32[5,5,3,4]{3,2,1,0} parameter(1)
  %input = f32[2,3,8,8]{3,2,1,0} fusion(%image), kind=kInput, calls=%fused_transpose
  %weights = f32[4,3,5,5]{3,2,1,0} transpose(%kernel), dimensions={3,2,0,1}
  %conv = (f32[2,4,8,8]{3,2,1,0}, u8[0]{0}) custom-call(%input, %weights), custom_call_target="__cudnn$convForward"
  %taken = f32[2,4,8,8]{3,2,1,0} get-tuple-element(%conv), index=0
  ROOT %sum = f32[2,4,8,8]{3,2,1,0} fusion(%taken), kind=kLoop, calls=%fused_add
}
"""


def test_convolutions_fusions_and_transposes_are_counted():
    assert [i.kind for i in read_computations(HLO)["fused_add"]] == ["parameter", "add"]
    assert summarise(HLO, [(5, 5, 3, 4)]) == {
        "convolutions": {"Forward f32": 1},
        "fusions": 2,
        "all_reduces": 0,
        "transposes_by_convolutions": {"activations": 1, "weights": 1},
        "bytes_at_convolutions": {"f32": 4 * (2 * 3 * 64 + 2 * 4 * 64)},
        # The image and the weights are read and written to be transposed; both and the maps; the maps twice more.
        "bytes_of_kernels": 4 * (2 * 384 + 2 * 300 + (384 + 300 + 512) + 2 * 512),
    }


LOOP = """\
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%body (state: (f32[10])) -> (f32[10]) {
  %state = (f32[10]{0}) parameter(0)
  %x = f32[10]{0} get-tuple-element(%state), index=0
  %y = f32[10]{0} copy(%x)
  ROOT %next = (f32[10]{0}) tuple(%y)
}

%other (z: f32[10]) -> f32[] {
  %z = f32[10]{0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %sum = f32[] reduce(%z, %zero), dimensions={0}, to_apply=%add
}

ENTRY %main (start: (f32[10])) -> f32[] {
  %start = (f32[10]{0}) parameter(0)
  %turned = (f32[10]{0}) while(%start), condition=%always, body=%body
  %last = f32[10]{0} get-tuple-element(%turned), index=0
  ROOT %total = f32[] call(%last), to_apply=%other
}
"""


def test_loops_and_calls_move_what_their_bodies_do():
    assert summarise(LOOP, [])["bytes_of_kernels"] == 4 * (2 * 10 + (10 + 1 + 1))


SLICE = """\
%fused (p0: f32[8], p1: f32[100,8]) -> f32[8] {
  %p0 = f32[8]{0} parameter(0)
  %p1 = f32[100,8]{1,0} parameter(1)
  %row = f32[1,8]{1,0} slice(%p1), slice={[50:51], [0:8]}
  %flat = f32[8]{0} bitcast(%row)
  ROOT %sum = f32[8]{0} add(%p0, %flat)
}

ENTRY %main (x: f32[100,8], y: f32[8]) -> f32[8] {
  %x = f32[100,8]{1,0} parameter(0)
  %y = f32[8]{0} parameter(1)
  ROOT %found = f32[8]{0} fusion(%y, %x), kind=kLoop, calls=%fused
}
"""


def test_of_what_is_sliced_the_slice_is_read():
    assert summarise(SLICE, [])["bytes_of_kernels"] == 4 * (8 + 8 + 8)
    also_whole = SLICE.replace("  %flat", "  %all = f32[100,8]{1,0} negate(%p1)\n  %flat")
    assert summarise(also_whole, [])["bytes_of_kernels"] == 4 * (8 + 8 + 800)


def test_sums_over_devices_are_counted_once():
    body = """\
  %started = f32[4]{0} all-reduce-start(%x), to_apply=%add
  %done = f32[4]{0} all-reduce-done(%started)
  %both = (f32[4]{0}, f32[2]{0}) all-reduce(%x, %y), to_apply=%add
"""
    found = summarise(f"ENTRY %main (x: f32[4]) -> f32[4] {{\n{body}}}\n", [])
    assert (found["all_reduces"], found["bytes_of_kernels"]) == (2, 4 * (4 + 4 + 2))


def test_bfloat16_is_told_from_float32():
    assert summarise(HLO.replace("f32[2", "bf16[2"), [(5, 5, 3, 4)])["convolutions"] == {"Forward bf16": 1}


@pytest.mark.parametrize(
    ("flags", "what"),
    [(("--devices=0",), "0 devices cannot share a batch of 8 equally"),
     (("--devices=8", "--accumulate=2"), "8 devices cannot share a batch of 8 equally in 2 parts")],
)  # fmt: skip
def test_devices_that_cannot_share_the_batch_are_refused(flags, what):
    done = run_command("benchmarks/gpu_program.py", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {what}\n")


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is not None, reason="it would compile for minutes")
def test_without_cuda_wheels_it_says_how_to_get_them():
    assert CARDS.keys() == {"2080ti", "a100", "h100"}
    done = run_command("benchmarks/gpu_program.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "skipped: the CUDA wheels are missing; install them with `uv sync --extra cuda12`\n"


DRIVER = """\
#!/bin/sh
case "$*" in
  *utilization.gpu*) for share in 0 0 0 0 0 30 50; do echo $share; done; exec sleep 60;;
  *) echo "A card"; echo "Another card";;
esac
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A program in the place of the driver's, of a machine with two cards."""
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_cards_and_how_busy_they_are_come_from_the_driver(driver):
    assert cards() == ["A card", "Another card"]
    with Busy("0") as busy:
        time.sleep(1)
    assert busy.share == pytest.approx(0.4)


def test_without_a_driver_there_is_no_card(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cards() == []
    with Busy("0") as busy:
        pass
    assert busy.share is None


@pytest.mark.slow
def test_a_step_is_measured_on_this_machine_s_processor_as_on_a_card(driver, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    options = {"network": "u2netp", "small": False, "dtype": "bfloat16", "batch_size": 2, "size": 32, "accumulate": 1}
    arguments = argparse.Namespace(**options, remat=True, layouts=True)
    found = run_step(arguments)
    assert found["what"] == vars(arguments)
    assert found["step_seconds_range"][0] <= found["step_seconds"] <= found["step_seconds_range"][1]
    assert found["images_per_second"] == pytest.approx(2 / found["step_seconds"])
    assert found["first_step_seconds"] > found["step_seconds"]
    assert found["busy"] == pytest.approx(0.4)
    assert found["teraflops_per_second"] > 0


def test_the_cost_of_a_step_is_that_of_one_for_the_processor(monkeypatch):
    """A GPU's client cannot tell it, and says None."""
    batch = [jax.ShapeDtypeStruct((2, 8, 8, channels), "float32") for channels in (3, 1)]
    step = jax.jit(lambda state, images, masks: state + (images * masks).sum())
    monkeypatch.setattr(gpu_step, "make_step", lambda _: (step, lambda: jax.numpy.zeros(()), batch))
    analyse, devices = jax.stages.Lowered.cost_analysis, []

    def noted(self):
        devices.append(jax.config.jax_default_device)
        return analyse(self)

    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", noted)
    arguments = argparse.Namespace(batch_size=2)
    assert 2 * 8 * 8 * 3 <= gpu_step.cost_per_image(arguments)["flops"] <= 2 * 8 * 8 * 3 + 8  # products and their sum
    assert [device.platform for device in devices] == ["cpu"]

    def none(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(ValueError, match="analysed on the CPU: JAX_PLATFORMS=cuda,cpu"):
        gpu_step.cost_per_image(arguments)


@pytest.mark.slow
def test_a_card_that_jax_does_not_find_is_not_mistaken_for_the_processor(driver, monkeypatch, capfd):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    arguments = argparse.Namespace(
        network="u2netp", small=False, dtype="float32", batch_size=1, size=32, accumulate=1, remat=False, layouts=False
    )
    assert run_step(arguments) is None
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: JAX finds no GPU here, but cpu: install")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--network=nosuch",), r"unknown network 'nosuch'"),
        (("--size=7",), r"afiu takes heights and widths .* nearest: 64x64"),
        (("--batch-size=8", "--accumulate=3"), r"train.batch_size is 8; it must be a multiple of .*: set it to 6"),
    ],
)
def test_a_step_that_cannot_be_made_is_refused_in_one_line(flags, reason, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    done = run_command("benchmarks/gpu_run.py", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: .*{reason}.*\n", done.stderr)
