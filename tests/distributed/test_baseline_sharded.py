"""A baseline from a column on two processes: A = r − b per row and what is logged under ZeRO-3, and a bad value."""

from pathlib import Path
from statistics import fmean

import pytest

import forked
import processes


WORKER = Path(__file__).parent / "baseline_worker.py"


def test_advantage_is_reward_minus_column(tmp_path):
    run = forked.launch(WORKER, tmp_path, 2, {"zero_stage": 3})
    rows = run["rows"]
    assert len(rows) == 2 * 3 * 8 and {row[0] for row in rows} == {0.25, None, 0.75}
    for p_term, length, advantage, varies in rows:
        # Groups have completions of one to four tokens, each worth an eighth.
        assert advantage == pytest.approx(length / 8 - (2.5 / 8 if p_term is None else p_term), abs=1e-6)
        assert varies == (advantage != 0.0 or p_term is None)
    for step in range(3):
        # Three steps of the first process, then three of the second.
        known = [row for first in (8 * step, 24 + 8 * step) for row in rows[first : first + 8] if row[0] is not None]
        rewards, baselines = fmean(row[1] / 8 for row in known), fmean(row[0] for row in known)
        assert run["baseline/progress"][step] == pytest.approx(rewards - baselines, abs=1e-6)
        assert run["baseline/regret"][step] == pytest.approx((1 - rewards) / (1 - baselines), abs=1e-6)
    assert len(set(run["amft/mu"])) > 1


def test_a_value_that_is_no_number_on_one_process_stops_all(tmp_path):
    """Each process has the rows of two prompts; the fourth is of the second process."""
    outcome = processes.start(WORKER, tmp_path, 2, {"broken_row": 3})
    assert outcome.returncode != 0
    line = "step 0: a row has p_term=nan: give a finite number, or nothing to leave it to the group"
    for rank in (0, 1):
        assert f"[rank{rank}]: trl_amft.runtime.checkpoints.ResumableError: {line}" in outcome.stderr, outcome.stderr
