"""Samples of a checkpoint, by vLLM or by transformers: the same prompts, token for token."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .generation import generate, render_prompts, undisturbed


@dataclass(frozen=True)
class Sampling:
    """
    How completions are drawn.

    Args:
        temperature (`float`, *optional*, defaults to `0.6`):
            Sampling temperature; 0 takes the likeliest token.
        top_p (`float`, *optional*, defaults to `1.0`):
            Share of probability that is sampled from, in (0, 1].
        max_tokens (`int`, *optional*, defaults to `8192`):
            Longest completion in tokens.
    """

    temperature: float = 0.6
    top_p: float = 1.0
    max_tokens: int = 8192


@dataclass(frozen=True)
class Sample:
    """
    A completion.

    Args:
        text (`str`):
            Without special tokens.
        ids (`list[int]`):
            Its token ids, the end-of-sequence token included.
        truncated (`bool`):
            Whether it reached the limit without an end-of-sequence token.
    """

    text: str
    ids: list[int]
    truncated: bool


class Sampler(Protocol):
    """What an evaluation needs of a model. `group_size` is how many completions it likes to draw at once."""

    group_size: int

    def sample(self, prompts: list, count: int, seed: int) -> list[list[Sample]]: ...


def derived_seed(*parts: object) -> int:
    """A seed of 31 bits from anything that can be printed, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


class TransformersSampler:
    """
    Samples by `generate()` of transformers.

    Args:
        model (`PreTrainedModel`):
            The model.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer, with a pad token.
        sampling ([`Sampling`]):
            How completions are drawn.
        batch_size (`int`, *optional*, defaults to `32`):
            Completions drawn at once.
        template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        batch_size: int = 32,
        template_kwargs: dict | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.group_size = batch_size
        self.template_kwargs = template_kwargs or {}
        self.eos_token_ids = end_tokens(model.generation_config.eos_token_id, tokenizer)

    def sample(self, prompts: list, count: int, seed: int) -> list[list[Sample]]:
        """
        Draw completions.

        Args:
            prompts (`list[str]` or `list[list[dict]]`):
                Prompts of one kind.
            count (`int`):
                Completions per prompt.
            seed (`int`):
                Seed of the sampling.

        Returns:
            `list[list[Sample]]`: per prompt its completions.
        """
        rendered = render_prompts(self.tokenizer, prompts, self.template_kwargs)
        repeated = [text for text in rendered for _ in range(count)]
        samples = []
        with undisturbed(self.model, seed):
            for start in range(0, len(repeated), self.group_size):
                samples += self._batch(repeated[start : start + self.group_size], isinstance(prompts[0], str))
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def _batch(self, texts: list[str], plain: bool) -> list[Sample]:
        # A chat template writes the special tokens itself.
        inputs = self.tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=plain
        )
        sampling, room = self.sampling, self._room(inputs["input_ids"].shape[1])
        max_tokens = min(sampling.max_tokens, room)
        completions = generate(
            self.model, inputs, max_tokens, sampling.temperature, self.eos_token_ids, top_p=sampling.top_p
        )
        decoded = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        return [
            Sample(text, ids, not set(self.eos_token_ids).intersection(ids))
            for text, ids in zip(decoded, completions, strict=True)
        ]

    def _room(self, prompt_length: int) -> int:
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions is not None and prompt_length >= positions:
            raise ValueError(
                f"a prompt has {prompt_length} tokens, the model {positions} positions; drop that problem"
            )
        return self.sampling.max_tokens if positions is None else positions - prompt_length


class VllmSampler:
    """
    Samples by vLLM.

    Args:
        model (`str`):
            Local folder or name on the Hub.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        sampling ([`Sampling`]):
            How completions are drawn.
        group_size (`int`, *optional*, defaults to `2048`):
            Completions handed to vLLM at once, which are also written down together.
        template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
        **engine_kwargs:
            Arguments of `vllm.LLM`.
    """

    def __init__(
        self,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        group_size: int = 2048,
        template_kwargs: dict | None = None,
        **engine_kwargs,
    ):
        from vllm import LLM

        self.tokenizer = tokenizer
        self.sampling = sampling
        self.group_size = group_size
        self.template_kwargs = template_kwargs or {}
        self.engine = LLM(model=model, **engine_kwargs)

    def sample(self, prompts: list, count: int, seed: int) -> list[list[Sample]]:
        """As [`TransformersSampler.sample`], with a seed per completion, so that its neighbours do not matter."""
        from vllm import SamplingParams

        plain = isinstance(prompts[0], str)
        rendered = render_prompts(self.tokenizer, prompts, self.template_kwargs)
        ids = self.tokenizer(rendered, add_special_tokens=plain)["input_ids"]
        requests, params = [], []
        for number, prompt_ids in enumerate(ids):
            for repetition in range(count):
                requests.append({"prompt_token_ids": prompt_ids})
                params.append(
                    SamplingParams(
                        temperature=self.sampling.temperature,
                        top_p=self.sampling.top_p,
                        max_tokens=self.sampling.max_tokens,
                        seed=derived_seed(seed, number, repetition),
                    )
                )
        outputs = [output.outputs[0] for output in self.engine.generate(requests, params, use_tqdm=False)]
        samples = [Sample(o.text, list(o.token_ids), o.finish_reason == "length") for o in outputs]
        return [samples[start : start + count] for start in range(0, len(samples), count)]


def end_tokens(of_model: int | list[int] | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """
    Token ids that end a completion.

    Args:
        of_model (`int` or `list[int]`, *optional*):
            Those of the model's generation configuration.
        tokenizer (`PreTrainedTokenizerBase`):
            Its own one is added.

    Returns:
        `list[int]`
    """
    ids = of_model if isinstance(of_model, list) else [of_model]
    return sorted({token for token in [*ids, tokenizer.eos_token_id] if token is not None})


def gpu_with_vllm() -> bool:
    """Whether there is a GPU and vLLM beside it."""
    from importlib.util import find_spec

    return torch.cuda.is_available() and find_spec("vllm") is not None
