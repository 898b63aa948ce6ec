"""Who decides about DeepSpeed: the launcher, the number of processes, then the recipe."""

import json

import pytest

from messages import one_line
from trl_amft.cli import deepspeed_choice
from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.deepspeed_choice import choose_deepspeed, zero_settings
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
def test_choice(entry, environment, processes, used, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ds.json").write_text(json.dumps(ENTRY))
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


WRONG = [
    ({"zero_optimization": {"stage": "auto"}}, ["zero_optimization.stage='auto' is not a stage", "give 0, 1, 2 or 3"]),
    ({"zero_optimization": {"stage": 4}}, ["zero_optimization.stage=4 is not a stage"]),
    ({"zero_optimization": {"stage": True}}, ["zero_optimization.stage=True is not a stage"]),
    ({"zero_optimization": 3}, ["zero_optimization=3 is no mapping", "write it as {'stage': 3}"]),
    ({"zero_optimization": None}, ["zero_optimization=None is no mapping"]),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": "cpu"}},
        ["zero_optimization.offload_optimizer='cpu' is no mapping", "write it as {'device': 'cpu'}"],
    ),
]


class TestEntry:
    @pytest.mark.parametrize(("entry", "parts"), WRONG)
    @pytest.mark.parametrize("in_file", [False, True])
    def test_wrong(self, tmp_path, entry, parts, in_file):
        path = str(tmp_path / "ds.json")
        (tmp_path / "ds.json").write_text(json.dumps(entry))
        with pytest.raises(UsageError) as error:
            choose_deepspeed(path if in_file else entry, {}, 2)
        one_line(error, *parts, f"deepspeed={path!r}: " if in_file else "deepspeed: ")

    @pytest.mark.parametrize(
        ("content", "part"),
        [(b"{stage: 3", "cannot be read (Expecting"), (b"\xff", "cannot be read ('utf-8'"), (b"[3]", "holds a list")],
    )
    def test_wrong_file(self, tmp_path, content, part):
        (tmp_path / "ds.json").write_bytes(content)
        with pytest.raises(UsageError) as error:
            choose_deepspeed(str(tmp_path / "ds.json"), {}, 2)
        one_line(error, f"deepspeed={str(tmp_path / 'ds.json')!r} {part}", "give a JSON file")

    def test_without_zero(self):
        assert zero_settings({}) == {} and zero_settings({"zero_optimization": {"offload_param": None}})


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
