"""Two processes under each kind of mixing policy against one, on the same recorded rollouts."""

import math

import pytest
from runs import assert_same_parameters, launch


CASES = {
    # A quarter of the prompts has a demonstration, so that processes are without any.
    "gate": {"zero_stage": 3, "paired_every": 4, "mixing_policy_kwargs": {"pass_reward": 0.7}},
    "luffy": {"paired_every": 2},
    "variance": {"zero_stage": 3},
    "srft": {},
}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(tmp_path, name):
    settings = {"mixing_policy": name, "sft_warmup_steps": 0, "max_steps": 4, **CASES[name]}
    one, two = (launch(tmp_path, processes, settings) for processes in (1, 2))
    for key in ("tokens", "rl_loss", "sft_loss", "loss"):
        # A step without a demonstration token has no supervised loss.
        expected, found = ([math.nan if value is None else value for value in run[key]] for run in (one, two))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True), key
    assert two["weights"] == pytest.approx(one["weights"], abs=1e-4)
    assert len(one["weights"]) == 4
    assert_same_parameters(two, one)
    if name == "gate":
        assert max(one["weights"]) > 0.0 and min(one["weights"]) < 1.0
