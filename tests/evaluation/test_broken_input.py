"""Files, checkpoints and recipes that an evaluation cannot use: one line that names what and what to do."""

import json

import pytest
from datasets import Dataset
from transformers import CLIPTextConfig

from trl_amft.cli.evaluate import main
from trl_amft.cli.evaluate_arguments import parse_arguments
from trl_amft.tiny_model import save_tiny_model


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MATHS = [{"problem": f"{n}+{n}?", "answer": str(2 * n)} for n in range(5)]
KWARGS = "task_kwargs: {dataset: synthetic, train_problems: 4, held_out_problems: 3}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    save_tiny_model(folder / "model", max_position_embeddings=512, **SMALL)
    Dataset.from_list(MATHS).to_json(folder / "math500.jsonl")
    return folder


def run(place, output, *argv, model="model"):
    given = ["--model", str(place / model), "--data_dir", str(place), "--output_dir", str(output)]
    main([*given, "--set", "math500", "--max_tokens", "3", "--batch_size", "2", *argv])


def error_of(capsys, command, *args, **kwargs):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command(*args, **kwargs)
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(lines) == 1 and "Traceback" not in shown
    return lines[0].removeprefix("error: ")


class TestRecipe:
    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("temperature: hot", "temperature='hot' is not valid; expected a number"),
            ("temperature: -1", "temperature=-1 is out of range; give a number above 0"),
            ("task_kwargs: [1]", "task_kwargs=[1] has the wrong type; expected a mapping"),
            ("task_kwargs: x", "task_kwargs='x' is not JSON"),
            ("held_out_samples: many", "held_out_samples='many' is not valid; expected a whole number"),
            ("held_out_samples: -1", "held_out_samples=-1 is negative"),
            ("max_completion_length: long", "max_completion_length='long' is not valid; expected a whole number"),
            ("max_completion_length: 0", "max_completion_length=0 is out of range; give a number of at least 1"),
        ],
    )
    def test_one_line(self, lines, message, tmp_path, capsys):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"task: maths\n{lines}\n")
        argv = ["--model", "m", "--recipe", str(recipe), "--max_tokens", "3", "--temperature", "1", "--samples", "1"]
        assert error_of(capsys, main, argv).startswith(f"recipe={str(recipe)!r}: {message}")

    def test_task(self, tmp_path, capsys):
        recipe = tmp_path / "recipe.yaml"
        for task, message in (("[x]", "task=['x'] has the wrong type; expected text"), ("x", "task='x' is not known")):
            recipe.write_text(f"task: {task}\n")
            assert message in error_of(capsys, main, ["--model", "m", "--recipe", str(recipe)])

    def test_what_it_does_not_read_may_be_of_another_machine(self, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"task: maths\n{KWARGS}\nheld_out_samples: '3'\ntemperature: '0.5'\ndeepspeed: nowhere.json\n"
        )
        args = parse_arguments(["--model", "m", "--recipe", str(recipe), "--task_kwargs", '{"train_problems": 5}'])
        assert (args.temperature, args.max_tokens, args.plan[0].samples) == (0.5, 8192, 3)
        kwargs = {"dataset": "synthetic", "train_problems": 5, "held_out_problems": 3}
        assert args.plan[0].task_kwargs == kwargs


class TestOutput:
    @pytest.mark.parametrize("below", ["", "a/b"])
    def test_a_file_is_no_folder(self, place, tmp_path, below, capsys):
        (tmp_path / "file").write_text("")
        output = str(tmp_path / "file" / below) if below else str(tmp_path / "file")
        assert error_of(capsys, run, place, output).startswith(f"output_dir={output!r} is out of range; expected a")

    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b'{"ids": ["a"], "correct": [], "num_samples": 1}'])
    def test_summary(self, place, tmp_path, content, capsys):
        path = tmp_path / "math500.json"
        path.write_bytes(content)
        assert str(path) in (error := error_of(capsys, run, place, tmp_path)) and "delete" in error
        error = error_of(capsys, main, ["--compare", str(tmp_path), str(tmp_path)])
        assert str(path) in error or "holds no finished set" in error

    def test_samples(self, place, tmp_path, capsys):
        run(place, tmp_path)
        (tmp_path / "math500.json").unlink()
        path = tmp_path / "math500.samples.jsonl"
        whole = path.read_bytes().splitlines(keepends=True)
        for line, content in ((1, b"{\n"), (2, b"\xff\n"), (3, b"[1]\n"), (3, b"{}\n"), (2, b"\0\0\n")):
            path.write_bytes(b"".join([*whole[: line - 1], content, *whole[line:]]))
            error = error_of(capsys, run, place, tmp_path)
            assert error == f"{path} is broken in line {line}; delete the file, or give another output_dir"


class TestCheckpoint:
    def test_weights(self, place, tmp_path, capsys):
        save_tiny_model(tmp_path / "model", **SMALL)
        weights = tmp_path / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        error = error_of(capsys, run, place, tmp_path / "out", model=tmp_path / "model")
        assert error.startswith(f"model={str(tmp_path / 'model')!r} cannot be loaded (")
        assert error.endswith("give the folder of a whole checkpoint, or a name on the Hub")

    def test_a_model_that_does_not_write(self, place, tmp_path, capsys):
        CLIPTextConfig().save_pretrained(tmp_path / "model")
        error = error_of(capsys, run, place, tmp_path / "out", model=tmp_path / "model")
        assert "is a 'clip_text_model', which does not write text" in error and len(error) < 400

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{% for", b"{{ raise_exception('no') }}"])
    def test_chat_template(self, place, tmp_path, content, capsys):
        template = tmp_path / "template"
        template.write_bytes(content)
        error = error_of(capsys, run, place, tmp_path / "out", "--chat_template", str(template))
        assert error.startswith((f"chat_template={str(template)!r} cannot be read (", "the chat template for model="))

    def test_a_prompt_longer_than_the_model(self, place, tmp_path, capsys):
        rows = [*MATHS[:2], {"problem": "1" * 600, "answer": "2"}]
        Dataset.from_list(rows).to_json(tmp_path / "math500.jsonl")
        error = error_of(capsys, run, place, tmp_path / "out", "--data_dir", str(tmp_path))
        assert error.startswith("set 'math500', problem 3: a prompt has ") and "the model 512 positions; drop" in error
        assert "longer context" in error and not (tmp_path / "out").exists()
        run(place, tmp_path / "out", "--data_dir", str(tmp_path), "--limit", "2")
        assert json.loads((tmp_path / "out" / "math500.json").read_text())["num_problems"] == 2
