"""Two processes under FSDP2 against one process without, on the same recorded rollouts, one without demonstrations;
L_SFT without full logits."""

import pytest
import torch
from runs import assert_same_run, launch, vector


FSDP = {"fsdp_options": {"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}}
CASES = {
    "full": {},
    "lora checkpointing": {"lora": True, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_two_processes_equal_one(tmp_path, overrides):
    one = launch(tmp_path, 1, overrides)
    two = launch(tmp_path, 2, {**FSDP, **overrides, "tiles": True})
    assert_same_run(two, one)


def test_resume(tmp_path):
    settings = {**FSDP, "save_strategy": "steps", "save_steps": 4}
    whole = launch(tmp_path, 2, settings)
    part = launch(tmp_path, 2, {"resume": str(tmp_path / "run-2" / "checkpoint-4"), **settings})
    assert part["weights"] == whole["weights"][2:]
    assert torch.equal(vector(part["end"]), vector(whole["end"]))
