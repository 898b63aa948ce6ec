"""
Runs on a GPU against the run of one process on the CPU, on the same recorded rollouts. Sharded ones have one process
each, with NCCL. Collected only where there is a GPU: see `conftest.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import WORKER, assert_same_run, launch, vector
from torch.distributed.elastic.utils.distributed import get_free_port

from trl_amft.gradient_sketch import GradientSketch


FSDP = {"fsdp_options": {"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}}
OFFLOAD = {"offload_optimizer": {"device": "cpu", "pin_memory": True}}
CASES = {
    "plain": {},
    "lora checkpointing": {"lora": True, "gradient_checkpointing": True},
    "no full logits": {"tiles": True},
    "zero1": {"zero_stage": 1},
    "zero2 overlapping": {"zero_stage": 2, "zero_options": {"overlap_comm": True}},
    "zero2 offload": {"zero_stage": 2, "zero_options": OFFLOAD},
    "zero3": {"zero_stage": 3},
    "zero3 overlapping": {"zero_stage": 3, "zero_options": {"overlap_comm": True, "contiguous_gradients": True}},
    "zero3 lora": {"zero_stage": 3, "lora": True},
    "zero3 offload": {"zero_stage": 3, "zero_options": {**OFFLOAD, "offload_param": {"device": "cpu"}}},
    "zero3 checkpointing, no full logits": {"zero_stage": 3, "gradient_checkpointing": True, "tiles": True},
    "fsdp2": FSDP,
    "fsdp2 checkpointing, no full logits": {**FSDP, "gradient_checkpointing": True, "tiles": True},
}


def on_gpu(folder: Path, overrides: dict) -> dict:
    """A run of the worker in one process on the GPU, launched as one of several where it shards."""
    settings = {**overrides, "gpu": True}
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(get_free_port())}
    if {"zero_stage", "fsdp_options"} & set(settings):
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    result = folder / "result-gpu.pt"
    command = [sys.executable, str(WORKER), str(result), json.dumps(settings)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-20000:]
    return torch.load(result, weights_only=True, map_location="cpu")


def test_sketch_equals_cpu():
    vector = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    sketches = []
    for device in ("cpu", "cuda"):
        form = GradientSketch(vector.numel(), width=1009, device=device)
        sketches.append(form.new())
        form.add_(sketches[-1], 0, vector.to(device))
    torch.testing.assert_close(sketches[1].cpu(), sketches[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_equals_cpu(tmp_path, overrides):
    cpu = launch(tmp_path, 1, {key: overrides[key] for key in ("lora",) if key in overrides})
    assert_same_run(on_gpu(tmp_path, overrides), cpu, rounding=1e-3 if "offload" in str(overrides) else 1e-4)


@pytest.mark.parametrize(
    "overrides", [{}, {"zero_stage": 2}, {"zero_stage": 3}, FSDP], ids=["plain", "2", "3", "fsdp2"]
)
def test_bf16(tmp_path, overrides):
    """
    Passes in bfloat16 round to three digits. After two steps the sensitivity is mostly that of elements which hardly
    have a gradient, so that the weights may part; what was learned may not.
    """
    exact = launch(tmp_path, 1, {})
    found = on_gpu(tmp_path, {**overrides, "bf16": True})
    assert found["tokens"] == exact["tokens"]
    for name in ("sft_loss", "rl_loss"):
        assert found[name] == pytest.approx(exact[name], rel=0.1, abs=0.03)
    moved, expected = (vector(run["end"]) - vector(exact["start"]) for run in (found, exact))
    assert torch.cosine_similarity(moved, expected, dim=0) > 0.95


@pytest.mark.parametrize("bf16", [True, False])
def test_value_equals_replay(tmp_path, bf16):
    """The estimate against the same gradients in float64, read through DeepSpeed's own interface; as a cosine."""
    run = on_gpu(tmp_path, {"zero_stage": 3, "replay": True, "bf16": bf16})
    assert len(run["replayed"]) == 3
    for (value, scale), (expected, expected_scale) in zip(run["products"][1:], run["replayed"], strict=True):
        assert abs(expected / expected_scale) > 1e-3
        assert value / scale == pytest.approx(expected / expected_scale, abs=1e-5)


@pytest.mark.parametrize("overrides", [{}, {"zero_stage": 3}, {"bf16": True}], ids=["float32", "zero3", "bf16"])
def test_resume(tmp_path, overrides):
    """Bit for bit, as on the CPU."""
    settings = {**overrides, "save_strategy": "steps", "save_steps": 4}
    whole = on_gpu(tmp_path, settings)
    part = on_gpu(tmp_path, {"resume": str(tmp_path / "run-1" / "checkpoint-4"), **settings})
    assert part["weights"] == whole["weights"][2:]
    assert torch.equal(vector(part["end"]), vector(whole["end"]))
