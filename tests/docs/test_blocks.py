"""What README and pages tell to run: training commands are read, Python runs, and lines of recipes are accepted."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from test_documents import PAGES, ROOT, code, script_of

import toy
from trl_amft import AMFTTrainer
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.evaluate_arguments import parse_arguments
from trl_amft.cli.recipe_file import read_recipe
from trl_amft.cli.study import read_study
from trl_amft.mixing import MIXING_POLICIES
from trl_amft.reporting.run_folder import read_run


QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
# Python that another test runs: tests/tasks/test_tasks_page.py.
RUN_ELSEWHERE = {"tasks.md"}
FILES_OF_THE_READER = re.compile(r"FILE|mine\.yaml")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(script: str) -> list[list[str]]:
    """Arguments of every line that runs a script, without the lines that only name it."""
    found = []
    for page in PAGES:
        for line in code(page):
            command = script_of(line)
            if (
                command is not None
                and command[0] == script
                and line != script
                and "FILE" not in line
                and "mine.yaml" not in line
            ):
                arguments = shlex.split(command[1], comments=True)
                if arguments and arguments not in found:
                    found.append(arguments)
    return found


@pytest.mark.parametrize("arguments", commands("scripts/train.py"), ids=" ".join)
def test_training_commands_are_read(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if arguments == ["--help"]:
        return
    # The recipes for GPUs train in bf16.
    here = [] if "--smoke" in arguments else ["--bf16", "false", "--use_cpu", "true"]
    recipe = parse_recipe([*arguments, *here, "--report_to", "none"])
    named = arguments[arguments.index("--recipe") + 1]
    assert recipe.changed.get("task") == read_recipe(named).get("task")


@pytest.mark.parametrize("arguments", commands("scripts/compare.py"), ids=" ".join)
def test_studies_are_read(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert read_study(arguments[arguments.index("--study") + 1]).runs


@pytest.mark.parametrize("arguments", commands("scripts/evaluate.py"), ids=" ".join)
def test_evaluations_are_read(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    parse_arguments(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_lines_of_recipes_are_accepted(page, tmp_path):
    for number, block in enumerate(blocks(page, "yaml")):
        overlay = tmp_path / f"{number}.yaml"
        lines = yaml.safe_load(block)
        recipe = read_recipe(QUICKSTART)
        # What belongs to the task and the model of that recipe.
        gone = {"task": ["task_kwargs"], "dataset_name": ["task", "task_kwargs"], "model_name_or_path": ["tiny_model"]}
        recipe |= dict.fromkeys(name for field in gone.keys() & lines for name in gone[field])
        overlay.write_text(yaml.safe_dump(recipe | lines), encoding="utf-8")
        changed = parse_recipe(["--recipe", str(overlay)]).changed
        assert {name: changed.get(name, recipe.get(name)) for name in lines} == lines


def test_python_of_the_pages_is_run_by_a_test():
    assert {page.name for page in PAGES if blocks(page, "python")} == {"drop_in.md", "policies.md"} | RUN_ELSEWHERE


def test_a_policy_of_ones_own(tmp_path, monkeypatch):
    """Registered after the first configuration was made, it trains and resumes exactly."""
    monkeypatch.setitem(MIXING_POLICIES, "entropy", None)  # So that it is gone afterwards.
    (block,) = blocks(ROOT / "docs" / "policies.md", "python")
    exec(block, {})
    settings = {"mixing_policy": "entropy", "mixing_policy_kwargs": {"scale": 0.3}, "max_steps": 4}
    settings |= {"save_strategy": "steps", "save_steps": 2}

    def trained(folder, checkpoint=None):
        model, tokenizer = toy.model()
        trainer = AMFTTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=toy.dense_reward,
            args=toy.config(folder, **settings),
            train_dataset=toy.prompt_set(),
            demonstration_dataset=toy.demonstration_set(),
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer

    whole = trained(tmp_path / "whole")
    rest = trained(tmp_path / "rest", str(tmp_path / "whole" / "checkpoint-2"))
    assert 0.0 < whole.mixing_weight == rest.mixing_weight < 1.0
    assert all(torch.equal(value, toy.parameters(rest)[name]) for name, value in toy.parameters(whole).items())


def test_python_of_the_drop_in_guide_runs(tmp_path):
    (block,) = blocks(ROOT / "docs" / "drop_in.md", "python")
    model, tokenizer = toy.model()
    trainer = AMFTTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path, max_steps=1),
        train_dataset=toy.prompt_set(),
        demonstration_dataset=toy.demonstration_set(),
    )
    exec(block, {"trainer": trainer})
    trainer.train()
    run = read_run(tmp_path)
    assert run.finished and (tmp_path / "log.jsonl").is_file() and run.last("time/step") is not None
