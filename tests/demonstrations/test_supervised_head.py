"""L_SFT from tiles of the vocabulary against L_SFT from full logits."""

import copy
import logging
import math

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, Qwen2Config
from trl.trainer.utils import add_fused_lm_head

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations import supervised_head
from trl_amft.demonstrations.supervised_head import add_supervised_head, head_is_that_of_the_model
from trl_amft.losses import sft_loss, token_entropies, token_loss


VOCABULARY = 200
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.5,
}
FAMILIES = {
    "plain": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "soft cap": Gemma2Config(**SIZES, head_dim=16, final_logit_softcapping=3.0),
    "scale": CohereConfig(**SIZES, logit_scale=0.25),
    "divisor": GraniteConfig(**SIZES, logits_scaling=4.0),
}


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch):
    """Several tiles also for a small vocabulary."""
    monkeypatch.setattr(supervised_head, "TILE", 64)
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 64)


def two_heads(config):
    """A model as GRPOTrainer leaves it, sampling at another temperature, and then with the second head."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).train()
    add_fused_lm_head(model, temperature=0.6, outputs=("log_probs", "entropy"))
    as_rollouts = model.forward
    assert add_supervised_head(model, cast_lm_head_to_fp32=False, entropy=True)
    return model, as_rollouts


def batch():
    ids = torch.randint(1, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :3] = -100
    labels[1, 6:] = -100
    return ids, labels, torch.tensor([1.0, 2.0, 0.5])


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_equals_full_logits(config):
    model, as_rollouts = two_heads(config)
    ids, labels, rows = batch()
    weigh = lambda log_probs, mask, entropies: log_probs.exp() + entropies()  # noqa: E731
    full = sft_loss(model(input_ids=ids).logits, labels, rows, weigh)
    expected = gradients(model, full.loss)
    found = model(input_ids=ids, labels=labels, supervised_head=True)
    tiles = token_loss(found.log_probs, found.is_top1, found.label_mask, lambda: found.entropy.detach(), rows, weigh)
    for name in ("loss", "nll", "correct", "weight"):
        torch.testing.assert_close(getattr(tiles, name), getattr(full, name), rtol=1e-5, atol=1e-5)
    mask = labels[:, 1:] != -100
    entropies = token_entropies(model(input_ids=ids).logits[:, :-1])
    torch.testing.assert_close(found.entropy[mask], entropies[mask], rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(model, tiles.loss).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * expected[name].abs().max())
    # What rollouts are scored with is untouched, and still at its own temperature.
    scored = model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs
    assert torch.equal(scored, as_rollouts(input_ids=ids, labels=labels, fused_lm_head=True).log_probs)
    assert not torch.allclose(scored, found.log_probs, atol=1e-2)
    assert head_is_that_of_the_model(model, Accelerator(cpu=True)) and model.training


def test_a_head_that_does_more_is_found(caplog):
    model, _ = two_heads(FAMILIES["plain"])
    model.lm_head.register_forward_hook(lambda module, inputs, output: 0.9 * output)
    with caplog.at_level(logging.WARNING):
        assert not head_is_that_of_the_model(model, Accelerator(cpu=True))
    assert "LlamaForCausalLM" in caplog.text and "full logits" in caplog.text


def test_what_stays_with_full_logits(monkeypatch):
    model = AutoModelForCausalLM.from_config(FAMILIES["plain"])
    forward = model.forward
    assert not add_supervised_head(copy.deepcopy(model).double(), False, False), "tiles are float32"
    monkeypatch.setattr(supervised_head, "TILE", VOCABULARY)
    assert not add_supervised_head(model, False, False), "a vocabulary of one tile"
    assert model.forward == forward


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_nothing_of_the_size_of_the_logits(monkeypatch):
    monkeypatch.setattr("trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE", 64)
    config = LlamaConfig(**{**SIZES, "vocab_size": 4096}, tie_word_embeddings=False)
    model, _ = two_heads(config)
    ids = torch.randint(1, 4096, (2, 256))
    logits = ids.numel() * 4096
    with LargestTensor() as full:
        sft_loss(model(input_ids=ids).logits, ids).loss.backward()
    with LargestTensor() as tiles:
        found = model(input_ids=ids, labels=ids, supervised_head=True)
        token_loss(found.log_probs, found.is_top1, found.label_mask, lambda: found.entropy).loss.backward()
    assert full.elements == logits
    assert tiles.elements <= max(4096 * config.hidden_size, logits // 16)


def train(tmp_path, **arguments):
    settings = {"temperature": 0.7, "max_steps": 4, "learning_rate": 1e-3, **arguments.pop("settings", {})}
    return toy.train(AMFTTrainer, toy.config(tmp_path, **settings), **arguments)


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_is_the_same(tmp_path, monkeypatch, lora):
    arguments = {"settings": {"mixing_policy": "srft", "sft_warmup_steps": 2}}
    if lora:
        arguments["peft_config"] = LoraConfig(r=4, target_modules="all-linear")
    tiles = train(tmp_path / "tiles", **copy.deepcopy(arguments))
    monkeypatch.setattr(supervised_head, "TILE", 2**20)
    full = train(tmp_path / "full", **arguments)
    assert tiles._supervised._tiles and not full._supervised._tiles
    for ours, theirs in zip(tiles.state.log_history, full.state.log_history, strict=True):
        for name in ("loss", "amft/sft_loss", "amft/sft_token_accuracy", "amft/token_weight", "grad_norm"):
            if name in theirs:
                assert math.isclose(ours[name], theirs[name], rel_tol=1e-4, abs_tol=1e-5), name
    for name, value in toy.parameters(full).items():
        torch.testing.assert_close(toy.parameters(tiles)[name], value, atol=1e-4, rtol=0)
