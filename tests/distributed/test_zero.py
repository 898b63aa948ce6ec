"""
Two processes under DeepSpeed ZeRO against one process without, on the same recorded rollouts, one process without
demonstrations.
"""

import pytest
from runs import assert_same_run, launch


pytest.importorskip("deepspeed")


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
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2},
    "zero-3": {"zero_stage": 3},
    "zero-2-lora": {"zero_stage": 2, "lora": True},
    "zero-3-lora": {"zero_stage": 3, "lora": True},
    "zero-3-checkpointing": {"zero_stage": 3, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_two_processes_equal_one(tmp_path, single, overrides):
    assert_same_run(launch(tmp_path, 2, overrides), single(overrides.get("lora", False)))
