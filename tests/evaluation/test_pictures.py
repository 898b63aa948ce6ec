"""Evaluations of problems in pictures: the model sees them, twice the same, resumed the same, compared."""

import json
import sys
import types

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from test_command import numbers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from trl_amft.cli import evaluate
from trl_amft.cli.evaluate import main
from trl_amft.demonstrations.pictures import pictures_of
from trl_amft.evaluation import evaluate_held_out
from trl_amft.evaluation.run_set import fingerprint, problem_id
from trl_amft.evaluation.samplers import PromptError, Sampling, TransformersSampler, VllmSampler
from trl_amft.tasks import load_general_points
from trl_amft.tiny_model import IMAGE_MODEL_TYPE, IMAGE_TOKEN, save_tiny_model


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0.5}
KWARGS = {"modality": "image", "style": "short", "train_hands": 4, "held_out_hands": 5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    save_tiny_model(folder / "model", model_type=IMAGE_MODEL_TYPE, image_pixels=56, **SMALL)
    save_tiny_model(folder / "blind", **SMALL)
    return folder


@pytest.fixture(scope="module")
def problems():
    return load_general_points(**KWARGS).held_out_dataset


@pytest.fixture(scope="module")
def model_and_processor(place):
    model = AutoModelForImageTextToText.from_pretrained(place / "model")
    return model, AutoProcessor.from_pretrained(place / "model")


def command(place, output, *argv, model="model"):
    given = ["--model", str(place / model), "--output_dir", str(place / output), "--max_tokens", "6"]
    given += ["--batch_size", "4", "--temperature", "1.0", "--samples", "2"]
    task = () if "--set" in argv else ("--task", "general_points", "--task_kwargs", json.dumps(KWARGS))
    main([*given, *task, *argv])
    return {path.name: path.read_text() for path in sorted((place / output).iterdir())}


class TestRun:
    def test_twice_the_same_and_compared(self, place, capsys):
        first, again = command(place, "one"), command(place, "two")
        assert first["general_points.samples.jsonl"] == again["general_points.samples.jsonl"]
        assert numbers(first["general_points.json"]) == numbers(again["general_points.json"])
        assert (
            first["results.md"] == again["results.md"] and numbers(first["general_points.json"])["num_problems"] == 5
        )
        capsys.readouterr()
        main(["--compare", str(place / "one"), str(place / "two")])
        assert "| general_points | 5 | 0.0 | 0.0 | +0.0 |" in capsys.readouterr().out

    @pytest.mark.parametrize("kept", [0, 2, 3])
    def test_resumes_to_the_same(self, place, kept):
        whole = command(place, "whole")
        lines = whole["general_points.samples.jsonl"].splitlines(keepends=True)
        output = place / f"resumed_{kept}"
        output.mkdir()
        (output / "general_points.samples.jsonl").write_text("".join(lines[: kept + 1]))
        resumed = command(place, output.name)
        assert resumed["general_points.samples.jsonl"] == whole["general_points.samples.jsonl"]
        assert numbers(resumed["general_points.json"]) == numbers(whole["general_points.json"])

    def test_finished_sets_do_not_load_the_model(self, place, monkeypatch):
        first = command(place, "finished")
        monkeypatch.setattr(evaluate, "load_sampler", lambda *args: pytest.fail("loaded"))
        assert command(place, "finished") == first

    def test_the_recipe_of_the_task(self, place, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"task: general_points\ntask_kwargs: {json.dumps(KWARGS)}\nmax_completion_length: 6\n")
        by_recipe = tmp_path / "out"
        given = ["--model", str(place / "model"), "--recipe", str(recipe), "--output_dir", str(by_recipe)]
        main([*given, "--samples", "2", "--temperature", "1.0", "--batch_size", "4"])
        found = (by_recipe / "general_points.samples.jsonl").read_text()
        assert found == command(place, "by_task")["general_points.samples.jsonl"]

    def test_a_model_that_sees_on_words(self, place, tmp_path):
        rows = [{"problem": f"{n}+{n}?", "answer": str(2 * n)} for n in range(3)]
        Dataset.from_list(rows).to_json(tmp_path / "math500.jsonl")
        found = command(place, "words", "--set", "math500", "--data_dir", str(tmp_path))
        assert numbers(found["math500.json"])["num_problems"] == 3

    def test_a_model_that_cannot_see(self, place, capsys):
        with pytest.raises(SystemExit, match="2"):
            command(place, "blind_out", model="blind")
        error = capsys.readouterr().err.strip()
        assert error == (
            f"error: set 'general_points' has pictures, and model={str(place / 'blind')!r} reads text only; give a "
            "model that sees, with its processor"
        )


class TestSampler:
    def test_answers_depend_on_the_picture(self, model_and_processor, problems):
        sampler = TransformersSampler(*model_and_processor, Sampling(0.0, 1.0, 8))
        prompts, pictures = problems["prompt"][:1] * 2, [[Image.new("RGB", (56, 56), c)] for c in ("red", "white")]
        (first,), (second,) = sampler.sample(prompts, 1, 0, pictures)
        assert first.ids != second.ids

    def test_a_prompt_that_leaves_no_room(self, model_and_processor, problems):
        model, processor = model_and_processor
        sampler = TransformersSampler(model, processor, Sampling(1.0, 1.0, 8))
        positions = model.config.text_config.max_position_embeddings
        prompts = [[{"role": "user", "content": text}] for text in ("a", "a" * positions, "b")]
        with pytest.raises(PromptError, match=f"tokens, the model {positions} positions; drop that problem") as caught:
            sampler.sample(prompts, 2, 0, [pictures_of(row) for row in problems][:3])
        assert caught.value.index == 1

    def test_vllm_gets_one_token_for_a_picture(self, model_and_processor, problems, monkeypatch):
        """With a stand-in for the engine."""
        calls = []

        class Engine:
            def __init__(self, **kwargs):
                pass

            def generate(self, requests, params, use_tqdm):
                calls.append(requests)
                output = types.SimpleNamespace(text="x", token_ids=(5, 1), finish_reason="stop")
                return [types.SimpleNamespace(outputs=[output]) for _ in requests]

        fake = types.SimpleNamespace(LLM=Engine, SamplingParams=lambda **kwargs: kwargs)
        monkeypatch.setitem(sys.modules, "vllm", fake)
        processor = model_and_processor[1]
        sampler = VllmSampler("m", processor, Sampling(0.5, 0.9, 7))
        pictures = [pictures_of(problems[0]), []]
        sampler.sample(problems["prompt"][:2], 2, 3, pictures)
        (requests,) = calls
        token = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        assert [request["prompt_token_ids"].count(token) for request in requests] == [1, 1, 0, 0]
        assert [request.get("multi_modal_data") for request in requests] == [{"image": pictures[0]}] * 2 + [None] * 2

    def test_words_beside_a_processor_in_the_training_evaluation(self, model_and_processor):
        words = Dataset.from_dict({"prompt": [[{"role": "user", "content": "a"}]]})
        result = evaluate_held_out(
            *model_and_processor, words, [lambda prompts, **kwargs: [1.0] * len(prompts)], max_completion_length=3
        )
        assert result.accuracy == 1.0


class TestFingerprint:
    def test_by_the_pictures(self, problems):
        again = load_general_points(**KWARGS).held_out_dataset
        assert fingerprint(problems) == fingerprint(problems) == fingerprint(again)
        row = problems[0]
        assert problem_id(row) != problem_id(row | {"image": problems[1]["image"]})

    def test_of_problems_in_words_as_before(self):
        assert problem_id({"prompt": "1+1?", "solution": "2"}) == "1295fdf04f0251a2"


def test_random_state_is_left(model_and_processor, problems):
    sampler = TransformersSampler(*model_and_processor, Sampling(1.0, 1.0, 3))
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    sampler.sample(problems["prompt"][:1], 1, 0, [pictures_of(problems[0])])
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("base", ["model", "blind"])
def test_adapter(place, base):
    loaded = (AutoModelForImageTextToText if base == "model" else AutoModelForCausalLM).from_pretrained(place / base)
    adapter = get_peft_model(loaded, LoraConfig(target_modules=["q_proj"], r=2))
    adapter.save_pretrained(place / f"adapter_{base}")
    AutoProcessor.from_pretrained(place / base).save_pretrained(place / f"adapter_{base}")
    kwargs = KWARGS if base == "model" else KWARGS | {"modality": "text"}
    argv = ("--task_kwargs", json.dumps(kwargs), "--limit", "2")
    found = command(place, f"adapter_{base}_out", *argv, model=f"adapter_{base}")
    assert numbers(found["general_points.json"])["num_problems"] == 2
