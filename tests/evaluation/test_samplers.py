"""What draws answers: the same prompts and seeds whoever does it."""

import sys
import types

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_amft.evaluation import samplers
from trl_amft.evaluation.samplers import Sample, Sampling, VllmSampler
from trl_amft.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    return folder


class TestSamplers:
    def test_vllm_gets_the_same_prompts_and_a_seed_for_each_sample(self, model_folder, monkeypatch):
        """With a stand-in for the engine; a real one takes a minute to start on a CPU."""
        calls = []

        class Engine:
            def __init__(self, **kwargs):
                calls.append(kwargs)

            def generate(self, requests, params, use_tqdm):
                calls.append((requests, params))
                output = types.SimpleNamespace(text="x", token_ids=(5, 1), finish_reason="length")
                return [types.SimpleNamespace(outputs=[output]) for _ in requests]

        fake = types.SimpleNamespace(LLM=Engine, SamplingParams=lambda **kwargs: kwargs)
        monkeypatch.setitem(sys.modules, "vllm", fake)
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        sampler = VllmSampler("m", tokenizer, Sampling(0.5, 0.9, 7), dtype="float32")
        chats = [[{"role": "user", "content": text}] for text in ("a", "bc")]
        drawn = sampler.sample(chats, 2, seed=3)
        assert drawn == [[Sample("x", [5, 1], True)] * 2] * 2
        requests, params = calls[1]
        rendered = tokenizer.apply_chat_template(chats, tokenize=True, add_generation_prompt=True, return_dict=False)
        assert [request["prompt_token_ids"] for request in requests] == [ids for ids in rendered for _ in range(2)]
        assert calls[0] == {"model": "m", "dtype": "float32"} and len({p["seed"] for p in params}) == 4
        assert {key: params[0][key] for key in ("temperature", "top_p", "max_tokens")} == {
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 7,
        }

    def test_prompt_longer_than_the_model(self, model_folder):
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        sampler = samplers.TransformersSampler(model, AutoTokenizer.from_pretrained(model_folder), Sampling(1, 1, 9))
        positions = model.config.max_position_embeddings
        assert len(sampler.sample(["a" * (positions - 3)], 1, 0)[0][0].ids) <= 3
        with pytest.raises(ValueError, match=f"a prompt has {positions} tokens, the model {positions} positions"):
            sampler.sample(["a" * positions], 1, 0)

    def test_derived_seeds(self):
        seeds = {samplers.derived_seed(0, name, n) for name in ("a", "b") for n in range(500)}
        assert len(seeds) == 1000 and all(0 <= seed < 2**31 for seed in seeds)
        # The same on every machine and in every process.
        assert samplers.derived_seed(0, "a", 1) == 1107633052
