"""The SFT segment before the RL segment against the usual order, two micro-batches each, in every way of sharding."""

import pytest
from runs import assert_same_run, launch
from test_fsdp import FSDP


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("usual"), 1, {})


CASES = {
    "one process": (1, {}),
    "DDP": (2, {}),
    "ZeRO-1": (2, {"zero_stage": 1}),
    "ZeRO-2": (2, {"zero_stage": 2}),
    "ZeRO-3": (2, {"zero_stage": 3}),
    "ZeRO-3 offloaded": (2, {"zero_stage": 3, "zero_options": {"offload_optimizer": {"device": "cpu"}}}),
    "FSDP2": (2, FSDP),
}


@pytest.mark.parametrize(("processes", "overrides"), CASES.values(), ids=CASES.keys())
def test_demonstrations_first(tmp_path, usual, processes, overrides):
    """DeepSpeed's optimizer for the CPU rounds in its own way."""
    ahead = launch(tmp_path, processes, {**overrides, "ahead": True})
    assert_same_run(ahead, usual, rounding=1e-3 if "zero_options" in overrides else 1e-5)
