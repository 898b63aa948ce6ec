"""
Rollouts from a real vLLM engine, built for CPUs, in the processes that train. After every synchronisation the engine
must give the tokens that it sampled the log-probabilities that the trainer gives them.
"""

from functools import partial
from pathlib import Path

import pytest
import torch

import toy
from processes import launch


run = partial(launch, Path(__file__).parent / "worker.py")


@pytest.fixture
def folder(tmp_path):
    """A folder with a model whose heads are wide enough for vLLM's attention on CPUs."""
    for part in toy.model(hidden_size=64):
        part.save_pretrained(tmp_path / "model")
    return tmp_path


def assert_in_step(result: dict, expected: list[tuple[int, str]]) -> None:
    assert [(step, kind) for step, kind, _ in result["rollouts"]] == expected
    assert max(difference for _, _, difference in result["rollouts"]) <= 1e-3
    moved = [name for name, value in result["start"].items() if not torch.equal(result["end"][name], value)]
    assert moved


TRAINING = [(step, "training") for step in (1, 2, 3)]
VALIDATED = [
    (1, "training"),
    (2, "validation"),
    (2, "training"),
    (3, "validation"),
    (3, "training"),
    (4, "validation"),
]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_one_process_and_resumed(folder, lora):
    """The first rollout comes after a step without one; a resumed run makes the rollouts of the whole one."""
    settings = {"lora": lora, "save_strategy": "steps", "save_steps": 2}
    whole = run(folder, 1, settings)
    assert_in_step(whole, TRAINING)
    part = run(folder, 1, {**settings, "resume": str(folder / "run-1" / "checkpoint-2")})
    assert_in_step(part, TRAINING[1:])
    # TRL adds the adapter to the weights for the engine and takes it off again, which rounds them. A checkpoint holds
    # the adapter only, so the resumed run starts from weights that were not rounded.
    rounding = 1e-6 if lora else 0.0
    assert part["weights"] == pytest.approx(whole["weights"], abs=rounding)
    for name, value in whole["end"].items():
        torch.testing.assert_close(part["end"][name], value, rtol=0.0, atol=10 * rounding)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_zero_3_with_validation(folder, lora):
    settings = {"zero_stage": 3, "lora": lora, "meta_gradient": "validation", "meta_interval": 1}
    assert_in_step(run(folder, 2, settings), VALIDATED)
