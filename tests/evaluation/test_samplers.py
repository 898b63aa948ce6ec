"""What draws answers: the same prompts and seeds whoever does it."""

import sys
import types

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_amft.evaluation import samplers
from trl_amft.evaluation.generation import generate, tokenize_prompts, undisturbed
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


class TestSettingsOfTheModel:
    """Repetitions are fined, rare tokens left out: none of that is what training samples from, or vLLM."""

    OWN = {"repetition_penalty": 5.0, "min_p": 0.5, "no_repeat_ngram_size": 2, "max_new_tokens": 7}

    def model_and_prompts(self, folder, adapter):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        if adapter:
            model = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
        return model, tokenize_prompts(tokenizer, ["1 2 1 2>", "333>"], {})

    def ids(self, model, prompts, length, temperature):
        with undisturbed(model, 0):
            return generate(model, prompts, length, temperature, [1])

    @pytest.mark.parametrize("adapter", [False, True])
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_they_do_not_count(self, model_folder, adapter, temperature):
        model, prompts = self.model_and_prompts(model_folder, adapter)
        expected = self.ids(model, prompts, 20, temperature)
        own = model.generation_config
        own.update(**self.OWN)
        assert self.ids(model, prompts, 20, temperature) == expected
        assert model.generation_config is own and own.repetition_penalty == 5.0

    def test_their_length_counts_where_none_is_given(self, model_folder):
        model, prompts = self.model_and_prompts(model_folder, False)
        model.generation_config.update(**self.OWN)
        assert max(map(len, self.ids(model, prompts, None, 1.0))) == 7

    def test_they_are_there_again_after_an_error(self, model_folder):
        model, prompts = self.model_and_prompts(model_folder, False)
        own = model.generation_config
        with pytest.raises(ValueError, match="top_p"):
            generate(model, prompts, 20, 1.0, [1], top_p=-1.0)
        assert model.generation_config is own
