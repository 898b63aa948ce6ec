"""A run that is killed and resumed ends as one that nobody killed; `kills.py` does this at random moments."""

import pytest
from kills import after_saving, killed_run, same, while_saving, whole_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("moment", [while_saving(6), after_saving(4, 0.1)], ids=["while saving", "later"])
def test_killed_and_resumed(tmp_path, whole, moment):
    result, found = killed_run(tmp_path, moment)
    assert "checkpoint-4" in found
    assert len(whole["mu"]) == 14
    assert same(result, whole)
