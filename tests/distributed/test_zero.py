"""
Two processes under DeepSpeed ZeRO against one process without, on the same recorded rollouts, one process without
demonstrations.
"""

from types import SimpleNamespace

import pytest
import torch
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from runs import assert_same_parameters, assert_same_run, launch, vector

from trl_amft.sharding.zero_offload import OffloadedFlatGradients


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The run of one process, once per model."""
    known = {}

    def run(lora):
        if lora not in known:
            known[lora] = launch(tmp_path_factory.mktemp("single"), 1, {"lora": lora})
        return known[lora]

    return run


CASES = {
    "1": {"zero_stage": 1},
    "2": {"zero_stage": 2},
    "2 reordered": {"zero_stage": 2, "zero_options": {"round_robin_gradients": True, "overlap_comm": True}},
    "3": {"zero_stage": 3},
    "2 lora": {"zero_stage": 2, "lora": True, "gradient_checkpointing": True},
    "3 lora": {"zero_stage": 3, "lora": True},
    "3 checkpointing, no full logits": {"zero_stage": 3, "gradient_checkpointing": True, "tiles": True},
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_two_processes_equal_one(tmp_path, single, overrides):
    assert_same_run(launch(tmp_path, 2, overrides), single(overrides.get("lora", False)))


def test_offloaded_gradients_are_waited_for():
    """From a GPU they are copied into pinned memory while the program goes on."""
    order, part = [], torch.zeros(4)
    part.grad = torch.ones(4)
    gradients = OffloadedFlatGradients.__new__(OffloadedFlatGradients)
    gradients._zero = SimpleNamespace(
        _wait_for_offload_copies=lambda: order.append("waited"), single_partition_of_fp32_groups=[part]
    )
    assert gradients._flat(0).tolist() == [1.0] * 4 and order == ["waited"]
    assert callable(DeepSpeedZeroOptimizer._wait_for_offload_copies)


@pytest.mark.parametrize("stage", [2, 3])
def test_offload(tmp_path, single, stage):
    """DeepSpeed's optimizer for the CPU rounds in its own way."""
    options = {"offload_optimizer": {"device": "cpu"}} | ({"offload_param": {"device": "cpu"}} if stage == 3 else {})
    two = launch(tmp_path, 2, {"zero_stage": stage, "zero_options": options})
    assert_same_run(two, single(False), rounding=1e-3)


@pytest.mark.parametrize("bf16", [True, False])
def test_value_equals_replay(tmp_path, bf16):
    """The same gradients in float64, read through DeepSpeed's own interface; as a cosine."""
    run = launch(tmp_path, 2, {"zero_stage": 3, "replay": True, "bf16": bf16})
    assert len(run["replayed"]) == 3
    for (value, scale), (expected, expected_scale) in zip(run["products"][1:], run["replayed"], strict=True):
        assert abs(expected / expected_scale) > 1e-3
        assert value / scale == pytest.approx(expected / expected_scale, abs=1e-6)


@pytest.mark.parametrize(("stage", "weight"), [(1, 0.0), (3, 1.0), (2, 0.3)])
def test_fixed_weight(tmp_path, stage, weight):
    settings = {"mixing_policy": "fixed", "mu_init": weight, "sft_warmup_steps": 0, "max_steps": 3}
    two = launch(tmp_path, 2, {"zero_stage": stage, **settings})
    assert_same_parameters(two, launch(tmp_path, 1, settings))


def test_validation_leaves_no_trace(tmp_path):
    """The gradient of the held-out prompts is in the buffers of the engine for a while, and nowhere afterwards."""
    settings = {"zero_stage": 3, "mu_lr": 0.0, "max_steps": 5, "recorded_rollouts": False}
    with_it = launch(tmp_path, 2, {"meta_gradient": "validation", "meta_interval": 1, **settings})
    without = launch(tmp_path, 2, settings)
    assert torch.equal(vector(with_it["end"]), vector(without["end"]))
    assert [value == value for value, _ in with_it["products"]] == [False, True, True]
    assert with_it["products"][1:] != without["products"][1:]


def test_resume(tmp_path):
    settings = {"zero_stage": 3, "save_strategy": "steps", "save_steps": 4}
    whole = launch(tmp_path, 2, settings)
    part = launch(tmp_path, 2, {"resume": str(tmp_path / "run-2" / "checkpoint-4"), **settings})
    assert part["weights"] == whole["weights"][2:]
    assert torch.equal(vector(part["end"]), vector(whole["end"]))
