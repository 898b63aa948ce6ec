"""Two processes under FSDP2 against one process without, on the same recorded rollouts, one without demonstrations."""

import pytest
from runs import assert_same_run, launch


FSDP = {"fsdp_options": {"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}}
CASES = {
    "full": {},
    "lora checkpointing": {"lora": True, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_two_processes_equal_one(tmp_path, overrides):
    one = launch(tmp_path, 1, overrides)
    two = launch(tmp_path, 2, {**FSDP, **overrides})
    assert_same_run(two, one)
