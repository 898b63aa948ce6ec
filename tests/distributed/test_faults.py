"""Nothing waits for ever: every process reaches every collective whatever its data, and all stop where one fails."""

import time

import pytest
from runs import WORKER, launch

from processes import start


ZERO_3 = {"zero_stage": 3}


def test_no_group_varies(tmp_path):
    assert launch(tmp_path, 2, {**ZERO_3, "reward": "same_for_all"})["weights"] == [0.5] * 4


def test_no_process_has_a_demonstration(tmp_path):
    result = launch(tmp_path, 2, {**ZERO_3, "demonstrations_kept": 0.0})
    assert result["tokens"] == [0.0] * 6 and result["weights"] == [0.5] * 4


@pytest.fixture
def failing_run(tmp_path):
    """A run that fails at its fifth step, and how long it went on after that."""

    def run(reward):
        began = time.monotonic()
        outcome = start(WORKER, tmp_path, 2, {**ZERO_3, "reward": reward})
        assert outcome.returncode != 0
        assert time.monotonic() - began < 60
        return outcome.stderr

    return run


def test_a_reward_that_raises_on_one_process_stops_all(failing_run, tmp_path):
    errors = failing_run("raises_on_one")
    message = (
        "step 4: the reward function 'raises_on_one' failed (process 1: ZeroDivisionError: no judge); resume from "
    )
    for rank in (0, 1):
        assert f"[rank{rank}]: trl_amft.reward_errors.RewardError: {message}" in errors, errors[-5000:]
    assert (tmp_path / "run-2" / "checkpoint-4" / "trainer_state.json").is_file()


def test_a_killed_process_stops_all(failing_run):
    assert "Signal 9 (SIGKILL)" in failing_run("kills_one")
