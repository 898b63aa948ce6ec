"""Parsing: precedence, baselines, and one line of text for every mistake."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from trl_amft.cli.arguments import parse_recipe
from trl_amft.cli.recipe_fields import METHODS
from trl_amft.cli.run_files import resolved_recipe
from trl_amft.cli.usage import UsageError, run_command, suggest


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))

MINIMAL = {"task": "countdown", "tiny_model": {"hidden_size": 32}, "bf16": False, "report_to": "none"}


@pytest.fixture
def write_recipe(tmp_path):
    def write(text: str = "", **fields) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text + yaml.safe_dump({**MINIMAL, "output_dir": str(tmp_path / "run"), **fields}))
        return str(path)

    return write


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_recipe(list(argv))
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestRecipes:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_every_recipe_parses(self, path, tmp_path):
        # Not every machine computes in bf16.
        recipe = parse_recipe(["--recipe", str(path), "--output_dir", str(tmp_path), "--bf16", "false"])
        assert recipe.changed["output_dir"] == str(tmp_path)

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_every_recipe_refuses_an_unknown_key(self, path, tmp_path):
        copy = tmp_path / path.name
        copy.write_text(path.read_text() + "\nmu_initt: 0.5\n")
        message = refusal("--recipe", str(copy))
        assert "mu_initt=0.5" in message and "did you mean 'mu_init'?" in message

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_every_recipe_starts_with_its_command(self, path):
        assert path.read_text().splitlines()[0].endswith(f"scripts/train.py --recipe recipes/{path.name}")

    def test_there_is_a_quickstart(self):
        assert "quickstart" in [path.stem for path in RECIPES]


class TestPrecedence:
    @pytest.mark.parametrize("form", ["separate", "joined"])
    def test_recipe_option_in_both_forms(self, write_recipe, form):
        path = write_recipe(mu_init=0.3)
        argv = ["--recipe", path] if form == "separate" else [f"--recipe={path}"]
        assert parse_recipe(argv).training.mu_init == 0.3

    @pytest.mark.parametrize("override", [["--mu_init", "0.7"], ["--mu-init=0.7"]])
    def test_command_line_wins_over_recipe(self, write_recipe, override):
        assert parse_recipe(["--recipe", write_recipe(mu_init=0.3), *override]).training.mu_init == 0.7

    def test_override_may_come_first(self, write_recipe):
        assert parse_recipe(["--mu_init", "0.7", "--recipe", write_recipe(mu_init=0.3)]).training.mu_init == 0.7

    def test_eval_strategy_no_needs_no_quotes(self, write_recipe):
        assert parse_recipe(["--recipe", write_recipe("eval_strategy: no\n")]).training.eval_strategy == "no"

    def test_command_line_value_equal_to_the_default_still_wins(self, write_recipe):
        default = parse_recipe(["--recipe", write_recipe()]).training.num_generations
        argv = ["--recipe", write_recipe(num_generations=2), "--num_generations", str(default)]
        assert parse_recipe(argv).training.num_generations == default

    def test_without_a_recipe(self, tmp_path):
        argv = ["--task", "countdown", "--tiny_model", "{}", "--bf16", "false", "--output_dir", str(tmp_path)]
        assert parse_recipe(argv).run.tiny_model == {}

    def test_mappings_on_the_command_line_replace_those_of_the_recipe(self, write_recipe):
        path = write_recipe(task_kwargs={"seed": 1, "train_problems": 8})
        recipe = parse_recipe(["--recipe", path, "--task_kwargs", '{"seed": 2}'])
        assert recipe.run.task_kwargs == {"seed": 2}

    def test_reward_list_on_the_command_line(self, write_recipe):
        recipe = parse_recipe(["--recipe", write_recipe(), "--reward_funcs", "a:b", "c:d"])
        assert recipe.run.reward_funcs == ["a:b", "c:d"]


class TestMethods:
    @pytest.mark.parametrize(
        ("method", "policy", "mu_init", "warmup"),
        [
            ("amft", "amft", 0.3, 4),
            ("sft", "fixed", 1.0, 4),
            ("grpo", "fixed", 0.0, 0),
            ("sft_then_grpo", "fixed", 0.0, 4),
        ],
    )
    def test_one_flag_turns_the_recipe_into_a_baseline(self, write_recipe, method, policy, mu_init, warmup):
        path = write_recipe(mu_init=0.3, sft_warmup_steps=4, max_steps=9)
        training = parse_recipe(["--recipe", path, "--method", method]).training
        assert (training.mixing_policy, training.mu_init, training.sft_warmup_steps) == (policy, mu_init, warmup)
        assert training.max_steps == 9

    def test_all_methods_are_covered_above(self):
        assert set(METHODS) == {"amft", "sft", "grpo", "sft_then_grpo"}

    def test_method_in_the_recipe(self, write_recipe):
        assert parse_recipe(["--recipe", write_recipe(method="sft")]).training.mu_init == 1.0

    def test_contradiction_on_the_command_line(self, write_recipe):
        message = refusal("--recipe", write_recipe(), "--method", "sft", "--mu_init", "0.3")
        assert "mu_init=0.3" in message and "'sft'" in message and "drop one" in message


class TestRefusals:
    def test_missing_recipe_with_a_near_name(self, write_recipe):
        path = write_recipe()
        message = refusal("--recipe", path.replace("recipe.yaml", "recipee.yaml"))
        assert "recipee.yaml" in message and f"did you mean {path!r}?" in message

    def test_missing_recipe_lists_what_is_there(self, write_recipe):
        folder = Path(write_recipe()).parent
        assert "holds: recipe.yaml" in refusal("--recipe", str(folder / "x"))

    def test_missing_folder(self, tmp_path):
        assert "give the path of a YAML file" in refusal("--recipe", str(tmp_path / "no" / "x.yaml"))

    @pytest.mark.parametrize("argv", [["--recipe"], ["--recipe="], ["--recipe", "--mu_init", "0.3"]])
    def test_recipe_without_a_file(self, argv):
        assert "--recipe names no file" in refusal(*argv)

    def test_two_recipes(self, write_recipe):
        path = write_recipe()
        assert "2 times" in refusal("--recipe", path, f"--recipe={path}")

    @pytest.mark.parametrize("text", ["- a list\n", "just text\n", "", "1: 2\n"])
    def test_recipe_that_is_no_mapping(self, tmp_path, text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        assert "'key: value'" in refusal("--recipe", str(path))

    def test_recipe_that_is_no_yaml(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text("a: [1\n")
        assert "not valid YAML" in refusal("--recipe", str(path))

    def test_key_given_twice(self, write_recipe):
        message = refusal("--recipe", write_recipe("mu_init: 0.1\n", mu_init=0.2))
        assert "mu_init is given twice" in message and "line" in message

    def test_nested_key_given_twice(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text("task_kwargs:\n  seed: 0\n  seed: 1\n")
        assert "seed is given twice" in refusal("--recipe", str(path))

    @pytest.mark.parametrize("token", ["--mu_initt", "--mu-initt=0.3", "--max_step"])
    def test_unknown_option(self, write_recipe, token):
        assert "did you mean" in refusal("--recipe", write_recipe(), token, "0.3")

    def test_stray_word(self, write_recipe):
        assert "'stray' belongs to no field" in refusal("--recipe", write_recipe(), "stray")

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"max_steps": 1.5}, "max_steps=1.5 has the wrong type; expected a whole number"),
            ({"max_steps": True}, "max_steps=True has the wrong type"),
            ({"max_steps": None}, "max_steps=None has the wrong type"),
            ({"max_steps": "many"}, "max_steps='many' is not valid; expected a whole number"),
            ({"learning_rate": [1]}, "learning_rate=[1] has the wrong type; expected a number"),
            ({"report_to": {"a": 1}}, "report_to={'a': 1} has the wrong type"),
            ({"reward_funcs": "a:b"}, "reward_funcs='a:b' has the wrong type; expected a list"),
            ({"tiny_model": [1]}, "tiny_model=[1] has the wrong type; expected a mapping"),
            ({"bf16": "maybe"}, "bf16"),
            ({"method": "sftt"}, "method='sftt' is not one of its choices; did you mean 'sft'?"),
            ({"method": None}, "method=None is not one of its choices; choose from: amft"),
            ({"method": "sft_then_grpo"}, "'sft_then_grpo' with sft_warmup_steps=0 has no first stage: set sft_warm"),
            ({"eval_strategy": "stepz"}, "eval_strategy='stepz' is not one of its choices; did you mean 'steps'?"),
            ({"mu_init": 2.0}, "mu_init=2.0"),
            ({"task": "countdwn"}, "task='countdwn' is not known; did you mean 'countdown'?"),
            ({"task": None}, "task=None and dataset_name=None"),
            ({"dataset_name": "x"}, "dataset_name='x'"),
            ({"tiny_model": None}, "tiny_model=None and model_name_or_path=None"),
            ({"model_name_or_path": "x"}, "model_name_or_path='x'"),
            ({"tiny_model": {"hiden_size": 8}}, "did you mean 'hidden_size'?"),
            ({"tiny_model": "{"}, "tiny_model='{' is not JSON"),
            ({"tiny_model": "[1]"}, "tiny_model=[1] must be a mapping"),
            ({"load_in_4bit": True}, "load_in_4bit"),
            ({"model_config": {"rope_theta": 1}}, "model_config={'rope_theta': 1} is for model_name_or_path"),
            ({"held_out_samples": -1}, "held_out_samples=-1"),
            ({"max_eval_samples": 0}, "max_eval_samples=0"),
            ({"validation_samples": 0}, "validation_samples=0"),
            (
                {"resume_from_checkpoint": "nowhere"},
                "resume_from_checkpoint='nowhere' is not the folder of a checkpoint",
            ),
            ({"task": None, "dataset_name": "x"}, "reward_funcs=None"),
            ({"task": None, "dataset_name": "x", "task_kwargs": {"a": 1}}, "task_kwargs={'a': 1} needs a task"),
            ({"resume_from_checkpoint": True}, "or 'auto'"),
            pytest.param(
                {"bf16": None},
                "set bf16 to false",
                marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it"),
            ),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
    )
    def test_bad_value_in_a_recipe(self, write_recipe, fields, expected):
        assert expected in refusal("--recipe", write_recipe(**fields))

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (["--max_steps", "many"], "max_steps='many' is not valid; expected a whole number"),
            (["--method", "sftt"], "method='sftt' is not one of its choices; did you mean 'sft'?"),
            (["--eval_strategy", "stepz"], "eval_strategy='stepz' is not one of its choices; did you mean 'steps'?"),
            (["--max_steps"], "max_steps: expected one argument"),
            (["--smokee"], "--smokee is not a known field; did you mean 'smoke'?"),
        ],
    )
    def test_bad_value_on_the_command_line(self, write_recipe, argv, expected):
        assert expected in refusal("--recipe", write_recipe(), *argv)


class TestResolvedRecipe:
    def test_it_is_a_recipe_of_the_same_run(self, write_recipe, tmp_path):
        path = write_recipe(mu_init=0.3, sft_warmup_steps=2, max_steps=9)
        argv = ["--recipe", path, "--learning_rate", "1e-3", "--tiny_model", json.dumps({"hidden_size": 64})]
        first = parse_recipe([*argv, "--method", "sft_then_grpo"])
        copy = tmp_path / "resolved.yaml"
        copy.write_text(resolved_recipe(first, {"torch": "1"}))
        second = parse_recipe(["--recipe", str(copy)])
        assert second.run == first.run and second.model == first.model
        for name in ("mu_init", "sft_warmup_steps", "max_steps", "learning_rate", "mixing_policy", "output_dir"):
            assert getattr(second.training, name) == getattr(first.training, name), name

    def test_mappings_of_the_command_line_become_yaml(self, write_recipe):
        argv = ["--recipe", write_recipe(), "--task_kwargs", '{"seed": 3}', "--generation_kwargs", '{"min_p": 0.1}']
        changed = parse_recipe(argv).changed
        assert changed["task_kwargs"] == {"seed": 3} and changed["generation_kwargs"] == {"min_p": 0.1}

    def test_only_what_differs_from_the_default(self, write_recipe):
        recipe = parse_recipe(["--recipe", write_recipe(num_generations=8, seed=7)])
        assert recipe.changed["seed"] == 7 and "num_generations" not in recipe.changed

    def test_versions_and_no_tokens(self, write_recipe):
        text = resolved_recipe(parse_recipe(["--recipe", write_recipe(hub_token="secret")]), {"torch": "2.13.0"})
        assert text.startswith("# torch 2.13.0\n") and "secret" not in text


class TestUsage:
    def test_one_line_and_exit_code_2(self, capsys):
        def command():
            raise UsageError("mu_init=2\n  is too large")

        with pytest.raises(SystemExit) as caught:
            run_command(command)
        assert caught.value.code == 2
        assert capsys.readouterr().err == "error: mu_init=2 is too large\n"

    def test_one_process_of_a_launch_speaks(self, capsys, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(SystemExit):
            run_command(lambda: parse_recipe(["--recipe"]))
        assert capsys.readouterr().err == ""

    def test_result_is_passed_on(self):
        assert run_command(lambda: 3) == 3

    def test_help_names_the_fields(self, capsys):
        with pytest.raises(SystemExit) as caught:
            parse_recipe(["--help"])
        assert caught.value.code == 0
        assert "--sft_warmup_steps" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("choices", "expected"),
        [
            (["alpha", "beta"], "did you mean 'alpha'?"),
            (["x", "y"], "choose from: x, y"),
            (map(str, range(50)), "--help"),
        ],
    )
    def test_suggestions(self, choices, expected):
        assert expected in suggest("alpa", choices)
