"""Nothing waits for ever: every process reaches every collective whatever its data, and all stop where one fails."""

import time

import pytest
from runs import WORKER, launch

from processes import start


ZERO_3 = {"zero_stage": 3}


def test_no_group_varies(tmp_path):
    assert launch(tmp_path, 2, {**ZERO_3, "reward": "same for all"})["weights"] == [0.5] * 4


def test_no_process_has_a_demonstration(tmp_path):
    result = launch(tmp_path, 2, {**ZERO_3, "demonstrations_kept": 0.0})
    assert result["tokens"] == [0.0] * 6 and result["weights"] == [0.5] * 4


@pytest.fixture
def failing_run(tmp_path):
    """What a run says that fails on one process; it must not go on for long after that."""

    def run(reward):
        outcome = start(WORKER, tmp_path, 2, {**ZERO_3, "reward": reward})
        assert outcome.returncode != 0
        assert time.time() - (tmp_path / "failed").stat().st_mtime < 60
        return outcome.stderr

    return run


def test_a_reward_that_raises_on_one_process_stops_all(failing_run, tmp_path):
    errors = failing_run("raises on one")
    message = "step 4: the reward function 'reward' failed (process 1: ZeroDivisionError: no judge); resume from "
    for rank in (0, 1):
        assert f"[rank{rank}]: trl_amft.rollouts.reward_errors.RewardError: {message}" in errors, errors[-5000:]
    assert (tmp_path / "run-2" / "checkpoint-4" / "trainer_state.json").is_file()


def test_a_killed_process_stops_all(failing_run):
    assert "Signal 9 (SIGKILL)" in failing_run("kills one")


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(tmp_path):
    result = launch(tmp_path, 2, {**ZERO_3, "reward": "signals one"})
    assert len(result["mu"]) == 5
    assert (tmp_path / "run-2" / "checkpoint-5" / "trainer_state.json").is_file()
