"""The doctor's estimate of memory: what each sharding stage divides, and what options change."""

import pytest

from trl_amft.doctor.memory import Sizes, memory


SIZES = Sizes(counted=1000, vocabulary=10, hidden=4, layers=2, keys=2, intermediate=8)


def needed(**options):
    common = {"gpu_memory": 1e9, "rollouts": 2, "demonstrations": 1, "tokens": 8, "vllm_share": 0.0}
    return memory(SIZES, **{"gpus": 4, **common, **options})


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(3, 500, 500, 3000), (2, 2000, 500, 3000), (1, 2000, 2000, 3000), (0, 2000, 2000, 12000)],
)
def test_what_each_stage_divides(stage, weights, gradients, optimizer):
    needs = needed(stage=stage)
    assert (needs["weights"], needs["gradients"], needs["optimizer"]) == (weights, gradients, optimizer)


def test_options():
    assert needed(offload=True)["optimizer"] == 0.0
    assert "SFT micro-batch" not in needed(demonstrations=0) and "sequences in vLLM's cache" not in needed()
    # Keys and values of 3 sequences x 8 tokens x 2 layers x 2 numbers, each two bytes.
    assert needed(generated=3)["rollouts"] - needed()["rollouts"] == 2 * 2 * 2 * 2 * 8 * 3
    whole, saved = needed(checkpointing=False), needed()
    assert whole["RL micro-batch"] > saved["RL micro-batch"]
