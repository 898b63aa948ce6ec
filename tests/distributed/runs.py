"""Starts worker.py in one or several processes and compares what came out."""

from functools import partial
from pathlib import Path

import pytest
import torch

import forked


WORKER = Path(__file__).parent / "worker.py"
launch = partial(forked.launch, WORKER)


def vector(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([parameters[name].double().flatten() for name in sorted(parameters)])


def assert_same_run(two: dict, one: dict, rounding: float = 1e-5) -> None:
    """The run of two processes is that of one, but for rounding, which is a share of each loss."""
    assert two["tokens"] == one["tokens"] and min(one["tokens"]) > 0
    for name in ("sft_loss", "rl_loss"):
        assert two[name] == pytest.approx(one[name], rel=rounding, abs=rounding)
    assert two["entropy_gap"] == pytest.approx(one["entropy_gap"], abs=rounding)
    for run in (one, two):
        assert_mixed_loss(run)
    judged = 0
    for (value, scale), (expected, expected_scale) in zip(two["products"], one["products"], strict=True):
        if expected == expected:  # NaN in the first mixed step, which has nothing to judge
            assert abs(value - expected) <= 1e-4 * expected_scale
            assert scale == pytest.approx(expected_scale, rel=max(1e-3, 10 * rounding))
            judged += 1
    assert judged == 3
    assert two["weights"] == pytest.approx(one["weights"], abs=1e-3)
    assert len(set(one["weights"])) > 1
    assert_same_parameters(two, one)


def assert_mixed_loss(run: dict) -> None:
    """What is logged as the loss is (1 − μ) L_RL + μ L_SFT with the weight of that run."""
    mixed = len(run["weights"])
    parts = zip(run["weights"], run["rl_loss"], run["sft_loss"][-mixed:], strict=True)
    expected = [(1 - mu) * rl + mu * sft for mu, rl, sft in parts]
    assert run["loss"][-mixed:] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def assert_same_parameters(two: dict, one: dict) -> None:
    start, moved = vector(one["start"]), vector(one["end"]) - vector(one["start"])
    assert moved.norm() > 1e-2
    assert (vector(two["end"]) - start - moved).norm() <= 1e-3 * moved.norm()
