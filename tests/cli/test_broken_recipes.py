"""Two hundred broken recipes, each answered before a model is loaded by one line with the key and a remedy."""

import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from broken_recipes import SOUND, Broken, broken_recipes, prepare, write

from trl_amft import amft_trainer
from trl_amft.cli import train


ROOT = Path(__file__).parents[2]
RECIPES = broken_recipes()
REMEDY = re.compile(
    r"did you mean|choose|expected|it takes|see --help|"
    r"\b(?:give|set|drop|lower|raise|use|keep|write|run|rename|make|move|leave|change|must|needs?)\b"
)
# So many of them also go through the command line, within so many times the processor time of its help each.
LAUNCHED, TIMES = 10, 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    prepare(folder)
    return folder


@pytest.fixture
def refuse(folder, monkeypatch, capsys):
    """Run the train command in this process; what it says, if it ends before it has a trainer."""

    class Loaded(Exception):
        pass

    def trainer(*args, **kwargs):
        raise Loaded

    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    monkeypatch.setattr(amft_trainer, "AMFTTrainer", trainer)

    def refuse(recipe: Broken) -> str | None:
        try:
            train.main(["--recipe", write(recipe, folder / "recipe.yaml")])
        except Loaded:
            return None
        except SystemExit as error:
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
            assert error.code == 2 and len(lines) == 1, (error.code, lines)
            return lines[0]
        raise AssertionError("it neither ended nor came to a trainer")

    return refuse


def test_the_sound_recipe_is_sound(refuse):
    assert refuse(Broken("sound", "", {})) is None


def test_there_are_two_hundred_and_all_differ():
    assert len(RECIPES) >= 200 and len({repr(recipe) for recipe in RECIPES}) == len(RECIPES)
    assert set(Counter(recipe.kind for recipe in RECIPES)) == {
        *("typo", "type", "range", "choice", "file", "column", "batch", "both", "nested", "yaml")
    }


@pytest.mark.parametrize(
    "recipe", RECIPES, ids=[f"{n}-{recipe.kind}-{recipe.key}" for n, recipe in enumerate(RECIPES)]
)
def test_one_line_with_key_and_remedy(refuse, recipe):
    line = refuse(recipe)
    assert line is not None, "a model would have been loaded"
    assert recipe.key in line, line
    assert recipe.remedy in line and REMEDY.search(line), line
    assert "Traceback" not in line and len(line) < 700, line


def launch(folder, *arguments):
    """The training command, and how much processor time it took: what other processes take is not its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "cache")},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.fixture(scope="module")
def seconds_of_help(folder):
    return launch(folder, "--help")[1]


@pytest.mark.parametrize("index", [len(RECIPES) * n // LAUNCHED for n in range(LAUNCHED)])
def test_from_the_command_line(folder, tmp_path, index, seconds_of_help):
    done, seconds = launch(folder, "--recipe", write(RECIPES[index], tmp_path / "recipe.yaml"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert RECIPES[index].key in done.stderr.splitlines()[-1]
    assert seconds < TIMES * seconds_of_help


def test_sound_recipe_has_only_known_fields():
    assert set(SOUND) >= {"dataset_name", "reward_funcs", "tiny_model", "output_dir"}
