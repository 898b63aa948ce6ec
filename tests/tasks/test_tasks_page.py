"""docs/tasks.md: its example runs, and its numbers are those of the code."""

import re
import runpy
from pathlib import Path

from trl_amft.tasks import TASKS, load_general_points, load_task
from trl_amft.tasks.general_points_hands import split_hands


PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_example_of_an_own_task_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "reversal.py").write_text(
        code.replace('"outputs/reversal",', '"outputs/reversal",\n        use_cpu=True,')
    )
    trainer = runpy.run_path(str(tmp_path / "reversal.py"))["trainer"]
    assert trainer.state.global_step == 4
    assert (tmp_path / "outputs" / "reversal" / "checkpoint-4").is_dir()


def test_every_task_is_named():
    assert all(f"\n| `{name}` | " in PAGE for name in TASKS)


def test_numbers_of_hands():
    train = split_hands(42, 24, 234).train
    assert f"{len(train)} remain" in PAGE.replace("\n", " ")
    assert f"in {len(load_general_points(train_hands=None).train_dataset):,} orders" in PAGE


def test_recipe_lines():
    task = load_task("general_points", held_out="rule", demonstration_quality=0.5, train_hands=50)
    assert {"correct", "wrong"} == set(task.demonstration_dataset["demonstration_source"])
    assert "task_kwargs: {held_out: rule, demonstration_quality: 0.5}" in PAGE
