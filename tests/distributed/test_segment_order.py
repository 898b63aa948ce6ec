"""The SFT segment before the RL segment against the usual order, two micro-batches each, in four ways of sharding."""

import pytest
from runs import assert_same_run, launch
from test_fsdp import FSDP


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("usual"), 1, {})


EVERY_BATCH = {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}}
CASES = {
    "DDP": {},
    "DDP, every micro-batch": EVERY_BATCH,
    "ZeRO-2": {"zero_stage": 2},
    "ZeRO-3": {"zero_stage": 3},
    "FSDP2": FSDP,
    "FSDP2, every micro-batch": {**FSDP, **EVERY_BATCH},
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_demonstrations_first(tmp_path, usual, overrides):
    assert_same_run(launch(tmp_path, 2, {**overrides, "ahead": True}), usual)
