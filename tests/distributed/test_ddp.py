"""Two processes under DDP against one process, on the same recorded rollouts, one process without demonstrations."""

import pytest
from runs import assert_same_parameters, assert_same_run, launch


@pytest.mark.parametrize(
    "overrides",
    [{}, {"lora": True, "gradient_checkpointing": True}, {"meta_window": 2}],
    ids=["full", "lora", "window"],
)
def test_two_processes_equal_one(tmp_path, overrides):
    one, two = (launch(tmp_path, processes, overrides) for processes in (1, 2))
    assert_same_run(two, one)


def test_another_number_of_processes_goes_on_with_the_evidence(tmp_path):
    """What the meta-gradient has seen does not depend on how many processes saw it."""
    settings = {"meta_window": 2, "save_strategy": "steps", "save_steps": 4}
    whole = launch(tmp_path, 2, settings)
    part = launch(tmp_path, 1, {"resume": str(tmp_path / "run-2" / "checkpoint-4"), **settings})
    assert part["weights"] == pytest.approx(whole["weights"][2:], abs=1e-3)
    assert part["weights"][0] != 0.5
    for (value, scale), (expected, expected_scale) in zip(part["products"], whole["products"][2:], strict=True):
        assert value == pytest.approx(expected, abs=1e-4 * expected_scale) and scale > 0.0
    assert_same_parameters(part | {"start": whole["start"]}, whole)
