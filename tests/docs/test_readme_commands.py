"""The commands of the README run, training in small, and the others on the run that it leaves."""

import shlex
import subprocess

import pytest
from test_documents import ROOT, code, script_of

from trl_amft.cli import console


def lines() -> list[tuple[str, list[str]]]:
    """Command and arguments of every line of the README that runs one of this package's commands."""
    found = []
    for line in code(ROOT / "README.md"):
        script = script_of(line)
        if script is not None and script[0].startswith("scripts/"):
            name = script[0].removeprefix("scripts/").removesuffix(".py")
            arguments = shlex.split(script[1], comments=True)
            if (name, arguments) not in found and "," not in script[1]:
                found.append((name, arguments))
    return found


LINES = lines()
TRAINING = [arguments for name, arguments in LINES if name == "train" and arguments]
OTHERS = {name: arguments for name, arguments in reversed(LINES) if name == "evaluate" or arguments}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the quickstart leaves, in small."""
    folder = tmp_path_factory.mktemp("run")
    train("--recipe", str(ROOT / "recipes" / "quickstart.yaml"), "--output_dir", str(folder))
    return str(folder)


def train(*arguments: str) -> None:
    assert console.main(["train", *arguments, "--smoke"]) == 0


def test_all_commands_are_there():
    assert len(TRAINING) >= 5 and set(OTHERS) >= {"doctor", "report", "evaluate", "compare"}


@pytest.mark.parametrize("arguments", TRAINING, ids=" ".join)
def test_training(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["recipes/progress_tiny.yaml" if part == "FILE" else part for part in arguments if part != "--smoke"]
    if "--output_dir" in arguments:
        place = arguments.index("--output_dir")
        del arguments[place : place + 2]
    train(*arguments, "--output_dir", str(tmp_path))
    assert (tmp_path / "model.safetensors").is_file() and (tmp_path / "metrics.json").is_file()


def test_doctor(monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["recipes/quickstart.yaml" if part == "FILE" else part for part in OTHERS["doctor"]]
    assert console.main(["doctor", *arguments]) == 0


def test_report(run, tmp_path):
    arguments = [run if part == "RUN_DIR" else part for part in OTHERS["report"]]
    assert console.main(["report", *arguments, "--output", str(tmp_path)]) == 0
    assert list(tmp_path.glob("*.html"))


def test_evaluate(run, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    recipe = ["--recipe", "recipes/quickstart.yaml", "--limit", "2", "--engine", "transformers"]
    arguments = [*OTHERS["evaluate"], "--model", run, *recipe, "--output_dir", str(tmp_path)]
    assert console.main(["evaluate", *arguments]) == 0 and (tmp_path / "results.md").is_file()


def test_compare(tmp_path, monkeypatch):
    """The line that makes the tables of the study from its committed results."""
    monkeypatch.chdir(ROOT)
    arguments = [*OTHERS["compare"]]
    arguments[arguments.index("--output") + 1] = str(tmp_path)
    assert console.main(["compare", *arguments]) == 0
    assert (tmp_path / "report.md").read_text() == (ROOT / "docs" / "results" / "core" / "report.md").read_text()


@pytest.mark.parametrize("target", ["quickstart", "test"])
def test_make(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    expected = "recipes/quickstart.yaml" if target == "quickstart" else "-m pytest"
    assert done.returncode == 0 and expected in done.stdout
