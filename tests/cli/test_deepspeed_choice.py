"""Who decides about DeepSpeed: the launcher, the number of processes, then the recipe."""

import pytest

from trl_amft.cli import deepspeed_choice
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.deepspeed_choice import choose_deepspeed
from trl_amft.cli.usage import UsageError


ENTRY = {"zero_optimization": {"stage": 3}}


@pytest.mark.parametrize(
    ("entry", "environment", "processes", "used", "line"),
    [
        (None, {}, 8, False, None),
        (None, {"ACCELERATE_USE_DEEPSPEED": "true"}, 8, False, None),
        (ENTRY, {}, 8, True, "DeepSpeed ZeRO-3 of the recipe, because 8 processes"),
        ("ds.json", {}, 8, True, "DeepSpeed with ds.json of the recipe"),
        (ENTRY, {}, 1, False, "because one process runs"),
        (ENTRY, {"ACCELERATE_USE_DEEPSPEED": "true"}, 8, False, "DeepSpeed as the launcher says"),
        (ENTRY, {"ACCELERATE_USE_DEEPSPEED": "true"}, 1, False, "DeepSpeed as the launcher says"),
        (ENTRY, {"ACCELERATE_USE_FSDP": "true"}, 8, False, "FSDP as the launcher says"),
        (ENTRY, {"ACCELERATE_USE_FSDP": "false", "ACCELERATE_USE_CPU": "False"}, 8, True, "of the recipe, because"),
        (ENTRY, {"ACCELERATE_USE_CPU": "True"}, 2, False, "the launcher asks for the CPU"),
    ],
)
def test_choice(entry, environment, processes, used, line):
    chosen, said = choose_deepspeed(entry, environment, processes)
    assert chosen == (entry if used else None)
    assert (said is None and line is None) or line in said


def test_one_process_does_not_look_for_deepspeed(monkeypatch):
    monkeypatch.setattr(deepspeed_choice, "find_spec", lambda name: pytest.fail("looked for it"))
    choose_deepspeed(ENTRY, {}, 1)


def test_not_installed(monkeypatch):
    monkeypatch.setattr(deepspeed_choice, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"8 processes, but deepspeed is not installed: .*\[deepspeed\].*--deepspeed null"
    ):
        choose_deepspeed(ENTRY, {}, 8)


class TestCommandLine:
    @pytest.fixture
    def recipe(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            f"task: countdown\ntiny_model: {{}}\nbf16: false\noutput_dir: {tmp_path}\n"
            "deepspeed: {zero_optimization: {stage: 2}}\n"
        )
        return str(path)

    def test_one_process(self, recipe):
        parsed = parse_recipe(["--recipe", recipe])
        assert parsed.training.deepspeed is None and len(parsed.notes) == 1 and "one process" in parsed.notes[0]
        # The recipe of the run keeps it for a launch with more.
        assert parsed.changed["deepspeed"] == {"zero_optimization": {"stage": 2}}

    def test_null(self, recipe):
        parsed = parse_recipe(["--recipe", recipe, "--deepspeed", "null"])
        assert parsed.training.deepspeed is None and parsed.notes == [] and "deepspeed" not in parsed.changed

    def test_several_processes_without_an_accelerator_meet(self, recipe, monkeypatch):
        """transformers would take each of them for the only one."""
        monkeypatch.setattr("trl_amft.cli.arguments.number_of_processes", lambda: 2)
        monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
        parsed = parse_recipe(["--recipe", recipe, "--deepspeed", "null"])
        assert parsed.training.use_cpu and parsed.notes == [
            "use_cpu: true, because 2 processes run and there is no accelerator"
        ]
