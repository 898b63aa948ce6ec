"""Two processes under DDP against one process, on the same recorded rollouts, one process without demonstrations."""

import pytest
from runs import assert_same_run, launch


@pytest.mark.parametrize(
    "overrides",
    [{}, {"lora": True, "gradient_checkpointing": True}, {"meta_window": 2}],
    ids=["full", "lora", "window"],
)
def test_two_processes_equal_one(tmp_path, overrides):
    one, two = (launch(tmp_path, processes, overrides) for processes in (1, 2))
    assert_same_run(two, one)
