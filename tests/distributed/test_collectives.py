"""What a learned weight adds to the collectives of a step grows neither with the model nor with the processes."""

from collections import Counter

import pytest
from runs import launch


GRPO = {"mixing_policy": "fixed", "mu_init": 0.0, "sft_warmup_steps": 0}


def collectives(folder, processes, overrides):
    """Names of the collectives of a late step, with their numbers."""
    steps = launch(folder, processes, {"count_collectives": True, **overrides})["collectives"]
    last, before = (Counter(name for name, _ in step) for step in (steps[-1], steps[-2]))
    assert last == before
    return last


def learned_and_grpo(folder, processes, overrides):
    return [collectives(folder, processes, {**overrides, **policy}) for policy in ({}, GRPO)]


@pytest.mark.parametrize(("processes", "layers"), [(2, 2), (4, 4)])
def test_ddp(tmp_path, processes, layers):
    """One gradient reduction more, for the demonstrations; the rest are scalars."""
    learned, grpo = learned_and_grpo(tmp_path, processes, {"layers": layers})
    assert not grpo - learned
    assert learned - grpo == {"c10d::allreduce_": 6, "c10d::broadcast_": 2}


@pytest.mark.parametrize("layers", [2, 4])
def test_zero_3(tmp_path, layers):
    """The demonstrations scatter their gradient as often as the rollouts; the rest are scalars and sketches."""
    learned, grpo = learned_and_grpo(tmp_path, 2, {"zero_stage": 3, "layers": layers})
    assert learned["c10d::allreduce_"] - grpo["c10d::allreduce_"] == 9
    assert learned["c10d::_reduce_scatter_base_"] == 2 * grpo["c10d::_reduce_scatter_base_"]
