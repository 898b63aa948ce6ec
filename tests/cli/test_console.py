"""The console command finds each script's `main`, and passes arguments and exit code on."""

import subprocess
import sys
from types import ModuleType

import pytest

import trl_amft
from trl_amft import __version__
from trl_amft.cli import console


@pytest.mark.parametrize("name", console.COMMANDS)
def test_arguments_and_exit_code_are_passed_on(monkeypatch, name):
    module = ModuleType(f"trl_amft.cli.{name}")
    module.main = lambda argv: 3 if argv == ["--recipe", "x"] else 4
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert console.main([name, "--recipe", "x"]) == 3


@pytest.mark.parametrize("name", console.COMMANDS)
def test_every_command_is_there(name):
    assert callable(console.command(name))


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"]])
def test_help_names_them_all(capsys, argv):
    assert console.main(argv) == 0
    printed = capsys.readouterr().out
    assert all(f"amft {name} " in printed for name in console.COMMANDS)


def test_version(capsys):
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out == f"trl_amft {__version__}\n"


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as caught:
        console.main(["trian"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: 'trian' is no sub-command of amft; did you mean 'train'?\n"


def test_entry_point_ends_with_the_exit_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["amft", "--version"])
    with pytest.raises(SystemExit) as caught:
        console.run()
    assert caught.value.code == 0


def test_a_mistake_of_a_sub_command_is_its_own(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        console.main(["report", str(tmp_path / "nothing")])
    assert caught.value.code == 2 and "give the output_dir of a run" in capsys.readouterr().err


def test_the_help_of_the_report_needs_no_torch():
    code = "import sys, trl_amft.cli.report; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_recipe_is_checked_before_vllm_is_loaded():
    code = "import sys, trl_amft.cli.train; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names_of_the_package_are_found_when_they_are_asked_for():
    assert set(trl_amft.__all__) <= set(dir(trl_amft))
    assert all(getattr(trl_amft, name).__name__ == name for name in trl_amft.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'GRPOTrainer'"):
        trl_amft.GRPOTrainer  # noqa: B018
