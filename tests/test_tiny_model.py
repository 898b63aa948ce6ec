import string

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_amft.tiny_model import MODEL_TYPES, build_character_tokenizer, build_tiny_model, save_tiny_model


def small(**kwargs):
    return build_tiny_model(**{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, **kwargs})


class TestCharacterTokenizer:
    def test_one_id_per_character_and_back(self):
        tokenizer = build_character_tokenizer()
        text = "3 4 5:35>\n" + string.printable
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text
        assert len(set(tokenizer(string.printable)["input_ids"])) == len(string.printable)

    def test_special_tokens(self):
        tokenizer = build_character_tokenizer()
        assert tokenizer.pad_token_id == 0
        assert tokenizer.eos_token_id == 1
        assert tokenizer.bos_token is None
        assert tokenizer("1<eos>")["input_ids"][-1] == 1
        assert tokenizer.decode([0, *tokenizer("7")["input_ids"], 1], skip_special_tokens=True) == "7"

    def test_text_outside_ascii_is_not_lost(self):
        tokenizer = build_character_tokenizer()
        assert tokenizer.decode(tokenizer("3×4 √é")["input_ids"]) == "3×4 √é"

    def test_chat_template_keeps_earlier_turns_as_a_prefix(self):
        tokenizer = build_character_tokenizer()
        user, assistant = {"role": "user", "content": "3+4"}, {"role": "assistant", "content": "7"}
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        assert prompt == "user: 3+4\nassistant: "
        assert tokenizer.apply_chat_template([user, assistant], tokenize=False).startswith(prompt + "7")


class TestTinyModel:
    def test_well_under_five_million_parameters(self):
        model, _ = build_tiny_model()
        assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 2_000_000
        assert model.dtype == torch.float32
        assert model.training

    def test_ids_agree_everywhere(self):
        model, tokenizer = small()
        assert model.config.vocab_size == len(tokenizer)
        for config in (model.config, model.generation_config):
            assert config.eos_token_id == tokenizer.eos_token_id
            assert config.pad_token_id == tokenizer.pad_token_id
            assert config.bos_token_id is None

    def test_seed_decides_the_weights_and_leaves_the_random_state_alone(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        first, _ = small(seed=1)
        assert torch.equal(torch.rand(3), expected)
        again, other = small(seed=1)[0], small(seed=2)[0]
        assert all(map(torch.equal, first.parameters(), again.parameters()))
        assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)

    def test_keyword_arguments_shape_the_model(self):
        model, _ = small(hidden_size=24, num_hidden_layers=3, intermediate_size=40, num_attention_heads=3)
        assert len(model.model.layers) == 3
        assert model.model.layers[0].mlp.up_proj.weight.shape == (40, 24)
        assert small(hidden_size=24, num_attention_heads=3)[0].model.layers[0].mlp.up_proj.weight.shape == (96, 24)

    def test_width_that_does_not_split_is_refused(self):
        with pytest.raises(ValueError, match="hidden_size=18 cannot be split into 2 heads.*multiple of 4"):
            small(hidden_size=18)

    def test_plain_auto_classes_reload_the_same_model_and_tokenizer(self, tmp_path):
        model, tokenizer = small()
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        reloaded_model = AutoModelForCausalLM.from_pretrained(tmp_path)
        reloaded = AutoTokenizer.from_pretrained(tmp_path)

        text = "3 4 5:35>3+4=7,7*5=35\n" + string.printable
        assert reloaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert reloaded.decode(reloaded(text)["input_ids"]) == text
        assert len(reloaded) == len(tokenizer) == reloaded_model.config.vocab_size
        assert (reloaded.pad_token_id, reloaded.eos_token_id, reloaded.bos_token_id) == (0, 1, None)
        assert reloaded.chat_template == tokenizer.chat_template
        assert all(map(torch.equal, model.parameters(), reloaded_model.parameters()))
        assert reloaded_model.generation_config.eos_token_id == 1

    def test_learns_to_repeat_a_line(self):
        model, tokenizer = small(hidden_size=32)
        batch = tokenizer(["3+4=7<eos>"] * 2, return_tensors="pt")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            model(**batch, labels=batch["input_ids"]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        prompt = tokenizer("3+", return_tensors="pt")
        completion = model.eval().generate(**prompt, max_new_tokens=10, do_sample=False)
        assert tokenizer.decode(completion[0]) == "3+4=7<eos>"


class TestFamilies:
    @pytest.mark.parametrize("model_type", MODEL_TYPES)
    def test_saved_and_loaded(self, tmp_path, model_type):
        sizes = {"model_type": model_type, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        save_tiny_model(tmp_path, **sizes)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
        assert model.config.model_type == model_type and model.config.vocab_size == len(tokenizer)
        assert getattr(model.config, "head_dim", None) in (None, 8)
        text = "<think>\n3  4 é\n</think>"
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        built = build_tiny_model(**sizes)[0]
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), built.parameters(), strict=True))

    def test_unknown_family(self):
        with pytest.raises(ValueError, match="model_type='gpt9' is not known; choose one of: qwen2, qwen3"):
            build_tiny_model(model_type="gpt9")
