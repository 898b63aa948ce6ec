"""`scripts/evaluate.py` on a tiny checkpoint: twice the same, resumed the same, compared, clear about bad input."""

import json

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from trl_amft.cli import evaluate
from trl_amft.cli.evaluate import main
from trl_amft.cli.evaluate_arguments import parse_arguments
from trl_amft.cli.usage import UsageError
from trl_amft.evaluation.run_set import evaluate_set
from trl_amft.evaluation.samplers import Sample
from trl_amft.grading import maths_reward
from trl_amft.tiny_model import save_tiny_model


MATHS = [{"problem": f"{n}+{n}?", "answer": str(2 * n), "level": n % 2, "subject": "sums"} for n in range(1, 8)]
ARC = [{"question": f"{n}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"} for n in range(3)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    save_tiny_model(folder / "model", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    Dataset.from_list(MATHS).to_json(folder / "math500.jsonl")
    Dataset.from_list(ARC).to_parquet(folder / "arc_challenge.parquet")
    return folder


def run(place, output, *argv):
    main(
        [
            *("--model", str(place / "model"), "--data_dir", str(place), "--output_dir", str(place / output)),
            *("--max_tokens", "6", "--batch_size", "4", "--temperature", "1.0", *argv),
        ]
    )
    return {path.name: path.read_text() for path in sorted((place / output).iterdir())}


def numbers(text):
    content = json.loads(text)
    del content["seconds"]
    return content


class TestRun:
    def test_same_seed_same_result_and_another_seed_another(self, place, capsys):
        argv = ("--set", "math500", "arc_challenge", "--samples", "2")
        first, again = run(place, "one", *argv), run(place, "two", *argv)
        assert sorted(first) == [
            "arc_challenge.json",
            "arc_challenge.samples.jsonl",
            "math500.json",
            "math500.samples.jsonl",
            "results.md",
        ]
        for name in ("math500", "arc_challenge"):
            assert numbers(first[f"{name}.json"]) == numbers(again[f"{name}.json"])
            assert first[f"{name}.samples.jsonl"] == again[f"{name}.samples.jsonl"]
        assert "arc_challenge" in capsys.readouterr().out
        other = run(place, "three", "--set", "math500", "--samples", "2", "--seed", "1")
        assert other["math500.samples.jsonl"].splitlines()[1:] != first["math500.samples.jsonl"].splitlines()[1:]

        summary = numbers(first["math500.json"])
        assert summary["num_problems"] == 7 and summary["num_samples"] == 2 and set(summary["pass"]) == {"1", "2"}
        assert summary["by_level"]["1"]["num_problems"] == 4 and set(summary["by_subject"]) == {"sums"}
        assert summary["accuracy"]["mean"] == summary["pass"]["1"]["mean"] == 0 and summary["accuracy"]["high"] > 0.2
        assert 1 <= summary["tokens"] <= 6 and 0 <= summary["truncated"] <= 1
        table = first["results.md"]
        assert "| math500 | 7 |" in table and "| mean over sets |" in table and "| math500 | level | 0 | 3 |" in table

    @pytest.mark.parametrize("kept", [0, 1, 3, 4, 5, 6, "cut"])
    def test_resumes_to_the_same(self, place, kept, tmp_path):
        """Groups are of two problems; a half group and a half line are drawn again."""
        whole = run(place, "whole", "--set", "math500", "--samples", "2")
        lines = whole["math500.samples.jsonl"].splitlines(keepends=True)
        part = "".join(lines[:4]) + lines[4][:20] if kept == "cut" else "".join(lines[: kept + 1])
        output = place / f"resumed_{kept}"
        output.mkdir()
        (output / "math500.samples.jsonl").write_text(part)
        resumed = run(place, output.name, "--set", "math500", "--samples", "2")
        assert resumed["math500.samples.jsonl"] == whole["math500.samples.jsonl"]
        assert numbers(resumed["math500.json"]) == numbers(whole["math500.json"])

    def test_goes_on_where_it_was(self, place):
        """What is written down is not sampled again."""
        dataset, seen, folder = Dataset.from_list([{"prompt": str(n), "solution": "1"} for n in range(6)]), [], place

        class Counting:
            group_size = 2

            def sample(self, prompts, count, seed):
                seen.extend(prompts)
                return [[Sample("\\boxed{1}", [1, 2], False)] * count for _ in prompts]

        def go():
            return evaluate_set(
                "counted", dataset, [maths_reward], Counting(), samples=1, seed=0, settings={}, folder=folder
            )

        go()
        path = folder / "counted.samples.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
        records = go()
        assert seen == ["0", "1", "2", "3", "4", "5", "2", "3", "4", "5"]
        assert [record["rewards"] for record in records] == [[1.0]] * 6

    def test_finished_sets_do_not_load_the_model(self, place, monkeypatch):
        argv = ("--set", "arc_challenge", "--samples", "1")
        first = run(place, "finished", *argv)
        monkeypatch.setattr(evaluate, "load_sampler", lambda *args: pytest.fail("loaded"))
        assert run(place, "finished", *argv) == first

    def test_goes_on_from_results_without_the_newer_settings(self, place):
        """Earlier versions wrote neither arguments of a task nor of the chat template into the samples."""
        whole = run(place, "newer", "--set", "math500", "--samples", "2")
        head, *records = whole["math500.samples.jsonl"].splitlines(keepends=True)
        settings = json.loads(head)
        assert settings.pop("task_kwargs") is settings.pop("chat_template_kwargs") is None
        older = place / "older"
        older.mkdir()
        (older / "math500.samples.jsonl").write_text("".join([json.dumps(settings) + "\n", *records[:4]]))
        resumed = run(place, "older", "--set", "math500", "--samples", "2")
        assert resumed["math500.samples.jsonl"].splitlines()[1:] == whole["math500.samples.jsonl"].splitlines()[1:]

    def test_arguments_of_the_chat_template(self, place, tmp_path, monkeypatch):
        """They are those of the recipe, and reach the prompts of both engines."""
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("task: countdown\nchat_template_kwargs: {enable_thinking: false, a: 1}\n")
        argv = ["--model", "m", "--recipe", str(recipe)]
        assert parse_arguments(argv).chat_template_kwargs == {"enable_thinking": False, "a": 1}
        given = parse_arguments([*argv, "--chat_template_kwargs", '{"a": 2}']).chat_template_kwargs
        assert given == {"enable_thinking": False, "a": 2}
        recipe.write_text("task: countdown\nchat_template_kwargs: '{\"a\": 3}'\n")
        assert parse_arguments(argv).chat_template_kwargs == {"a": 3}

        template = tmp_path / "template"
        template.write_text("{{ messages[-1]['content'] }}{{ thinks or raise_exception('not said') }}")
        options = ("--chat_template", str(template), "--chat_template_kwargs", '{"thinks": true}')
        loaded = []
        monkeypatch.setattr(evaluate, "VllmSampler", lambda *args, **kwargs: loaded.append(args))
        load = evaluate.load_sampler

        def both(args, engine, checkpoint, reader):
            load(args, "vllm", checkpoint, reader)
            loaded.append(load(args, engine, checkpoint, reader))
            return loaded[-1]

        monkeypatch.setattr(evaluate, "load_sampler", both)
        found = run(place, "thinks", "--set", "arc_challenge", *options)
        (*_, of_vllm), sampler = loaded
        assert of_vllm == sampler.template_kwargs == {"thinks": True}
        assert numbers(found["arc_challenge.json"])["settings"]["chat_template_kwargs"] == {"thinks": True}

    def test_recipe_and_task(self, place, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            "task: maths\ntask_kwargs: {dataset: synthetic, train_problems: 4, held_out_problems: 3}\n"
            "max_completion_length: 5\ntemperature: 0.9\nheld_out_samples: 2\n"
        )
        args = parse_arguments(["--model", "m", "--recipe", str(recipe)])
        assert (args.max_tokens, args.temperature, args.plan[0].samples) == (5, 0.9, 2)
        by_recipe = run(place, "recipe", "--recipe", str(recipe))
        kwargs = '{"dataset": "synthetic", "train_problems": 4, "held_out_problems": 3}'
        by_task = run(place, "task", "--task", "maths", "--task_kwargs", kwargs, "--samples", "2")
        assert numbers(by_recipe["maths.json"])["ids"] == numbers(by_task["maths.json"])["ids"]
        countdown = run(
            *(place, "countdown", "--task", "countdown", "--limit", "3"),
            *("--task_kwargs", '{"train_problems": 8, "held_out_problems": 4}'),
        )
        assert numbers(countdown["countdown.json"])["num_problems"] == 3

    def test_suites(self):
        args = parse_arguments(["--model", "m", "--suite", "math", "ood", "general_points"])
        plan = {planned.name: planned for planned in args.plan}
        assert (plan["aime24"].samples, plan["math500"].samples, plan["gpqa_diamond"].samples) == (32, 1, 1)
        assert plan["general_points_rule"].task_kwargs == {"held_out": "rule"}
        assert (args.temperature, args.top_p, args.max_tokens) == (0.6, 1.0, 8192)

    def test_greedy(self, place):
        first = run(place, "greedy_a", "--set", "arc_challenge", "--temperature", "0", "--samples", "2")
        records = [json.loads(line) for line in first["arc_challenge.samples.jsonl"].splitlines()[1:]]
        assert all(len(set(record["completions"])) == 1 for record in records)


class TestBadInput:
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ([], "--model is missing"),
            (["--model", "m"], "nothing to evaluate; give --suite, --set, --task or --recipe"),
            (["--model", "m", "--suite", "maths"], "suite='maths' is not known; did you mean 'math'?"),
            (["--model", "m", "--set", "aime23"], "set='aime23' is not known; did you mean"),
            (["--model", "m", "--set", "aime24", "--suite", "math"], "set='aime24' is given twice"),
            (["--model", "m", "--task", "countdwn"], "task='countdwn' is not known; did you mean 'countdown'?"),
            (["--model", "m", "--set", "amc", "--task_kwargs", "{}"], "task_kwargs='{}' needs --task or --recipe"),
            (["--model", "m", "--task", "maths", "--task_kwargs", "[1]"], "task_kwargs='[1]' is no JSON mapping"),
            (
                ["--model", "m", "--set", "amc", "--chat_template_kwargs", "x"],
                "chat_template_kwargs='x' is no JSON mapping",
            ),
            (["--model", "m", "--set", "amc", "--samples", "0"], "samples=0 is out of range; expected at least 1"),
            (["--model", "m", "--set", "amc", "--samples", "x"], "argument --samples: invalid int value: 'x'"),
            (["--model", "m", "--set", "amc", "--temperature", "-1"], "temperature=-1.0 is out of range"),
            (["--model", "m", "--set", "amc", "--top_p", "0"], "top_p=0.0 is out of range"),
            (["--model", "m", "--set", "amc", "--data_dir", "nowhere"], "data_dir='nowhere' is out of range"),
            (["--model", "m", "--set", "amc", "--dtype", "int8"], "dtype='int8' is out of range"),
            (
                ["--model", "m", "--set", "amc", "--sample", "2"],
                "--sample is not a known argument; did you mean '--samples'?",
            ),
            (["--model", "m", "--recipe", "nowhere.yaml"], "recipe='nowhere.yaml' is not a file"),
            (["--model", "nowhere", "--set", "amc"], "model='nowhere' cannot be loaded"),
            (["--compare", "a"], "argument --compare: expected 2 arguments"),
        ],
    )
    def test_one_line(self, argv, message, capsys):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        error = capsys.readouterr().err.strip()
        assert caught.value.code == 2 and error.startswith("error: ") and message in error and "\n" not in error

    def test_unreachable_set(self, place, capsys):
        with pytest.raises(SystemExit, match="2"):
            run(place, "none", "--set", "aime25")
        assert (
            "error: set 'aime25': dataset='math-ai/aime25' with split='test' cannot be loaded"
            in capsys.readouterr().err
        )

    def test_task_arguments(self, place, capsys):
        with pytest.raises(SystemExit, match="2"):
            run(place, "none", "--task", "countdown", "--task_kwargs", '{"card": 3}')
        assert "task argument card=3 is not known" in capsys.readouterr().err

    def test_other_settings_in_the_folder(self, place, capsys):
        run(place, "settings", "--set", "arc_challenge")
        with pytest.raises(SystemExit, match="2"):
            run(place, "settings", "--set", "arc_challenge", "--seed", "5")
        assert "arc_challenge.json has seed=0, this run seed=5; give another output_dir" in capsys.readouterr().err
        (place / "settings" / "arc_challenge.json").unlink()
        with pytest.raises(SystemExit, match="2"):
            run(place, "settings", "--set", "arc_challenge", "--top_p", "0.5")
        assert "samples.jsonl has top_p=1.0, this run top_p=0.5" in capsys.readouterr().err

    def test_weights_that_were_overwritten(self, place, tmp_path, capsys):
        save_tiny_model(tmp_path / "model", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        argv = ["--model", str(tmp_path / "model"), "--data_dir", str(place), "--output_dir", str(tmp_path / "out")]
        argv += ["--set", "arc_challenge", "--max_tokens", "2"]
        main(argv)
        save_tiny_model(tmp_path / "model", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, seed=1)
        with pytest.raises(SystemExit, match="2"):
            main(argv)
        assert "arc_challenge.json has weights=" in capsys.readouterr().err

    def test_another_reward_in_the_folder(self, place, capsys):
        task = ("--task", "countdown", "--limit", "1", "--samples", "1", "--task_kwargs")
        run(place, "rewards", *task, '{"reward": "steps"}')
        with pytest.raises(SystemExit, match="2"):
            run(place, "rewards", *task, '{"reward": "outcome"}')
        assert "countdown.json has task_kwargs={'reward': 'steps'}, this run" in capsys.readouterr().err
        (place / "rewards" / "countdown.json").unlink()
        with pytest.raises(SystemExit, match="2"):
            run(place, "rewards", *task, '{"reward": "outcome"}')
        assert "samples.jsonl has task_kwargs={'reward': 'steps'}, this run" in capsys.readouterr().err

    def test_another_template_argument_in_the_folder(self, place, capsys):
        argv = ("--set", "arc_challenge", "--chat_template_kwargs")
        run(place, "template", *argv, '{"enable_thinking": true}')
        with pytest.raises(SystemExit, match="2"):
            run(place, "template", *argv, '{"enable_thinking": false}')
        assert "json has chat_template_kwargs={'enable_thinking': True}, this run" in capsys.readouterr().err

    def test_launched_with_several_processes(self, place, monkeypatch, capsys):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(SystemExit, match="2"):
            run(place, "none", "--set", "arc_challenge")
        assert "an evaluation is one process" in capsys.readouterr().err

    def test_no_chat_template(self, place, tmp_path, capsys):
        tokenizer = AutoTokenizer.from_pretrained(place / "model")
        save_tiny_model(tmp_path / "model", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        tokenizer.chat_template = None
        (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
        tokenizer.save_pretrained(tmp_path / "model")
        argv = ["--model", str(tmp_path / "model"), "--data_dir", str(place), "--output_dir", str(tmp_path / "out")]
        argv += ["--set", "arc_challenge", "--max_tokens", "2"]
        with pytest.raises(SystemExit, match="2"):
            main(argv)
        assert (
            "has no chat template, and set 'arc_challenge' is a chat; give --chat_template" in capsys.readouterr().err
        )
        (tmp_path / "template").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
        main([*argv, "--chat_template", str(tmp_path / "template")])

    def test_engine(self, place, tmp_path, monkeypatch):
        args = parse_arguments(["--model", str(tmp_path), "--set", "amc", "--engine", "vllm"])
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(UsageError, match="is an adapter, which engine='vllm' does not merge"):
            evaluate.choose_engine(args)
        monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"engine='vllm' is not installed; run `pip install 'trl_amft\[vllm\]'`"):
            evaluate.choose_engine(args)
        auto = parse_arguments(["--model", "m", "--set", "amc"])
        for present in (True, False):
            monkeypatch.setattr(evaluate, "gpu_with_vllm", lambda present=present: present)
            assert evaluate.choose_engine(auto) == ("vllm" if present else "transformers")
