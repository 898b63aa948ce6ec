"""Samples of a checkpoint, by vLLM or by transformers: the same prompts, token for token."""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from trl.data_utils import prepare_multimodal_messages

from .generation import generate, render_prompts, text_tokenizer, tokenize_prompts, undisturbed


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

    def sample(
        self, prompts: list, count: int, seed: int, pictures: list[list] | None = None
    ) -> list[list[Sample]]: ...


class PromptError(ValueError):
    """The prompt at `index` of those that were to be answered cannot be, for this reason."""

    def __init__(self, index: int, reason: str):
        super().__init__(f"{reason}; drop that problem")
        self.index, self.reason = index, reason


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
            Its tokenizer, with a pad token, or the processor of a model that sees.
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
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
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

    def sample(self, prompts: list, count: int, seed: int, pictures: list[list] | None = None) -> list[list[Sample]]:
        """
        Draw completions.

        Args:
            prompts (`list[str]` or `list[list[dict]]`):
                Prompts of one kind.
            count (`int`):
                Completions per prompt.
            seed (`int`):
                Seed of the sampling.
            pictures (`list[list]`, *optional*):
                Those of each prompt.

        Returns:
            `list[list[Sample]]`: per prompt its completions.

        Raises:
            [`PromptError`]: if a prompt leaves no room for an answer.
        """
        places = [index for index in range(len(prompts)) for _ in range(count)]
        samples = []
        with undisturbed(self.model, seed):
            for start in range(0, len(places), self.group_size):
                batch = places[start : start + self.group_size]
                shown = None if pictures is None else [pictures[index] for index in batch]
                samples += self._batch([prompts[index] for index in batch], shown, batch)
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def _batch(self, prompts: list, pictures: list[list] | None, places: list[int]) -> list[Sample]:
        inputs = tokenize_prompts(self.tokenizer, prompts, self.template_kwargs, pictures)
        sampling, room = self.sampling, self._room(inputs["attention_mask"], places)
        max_tokens = min(sampling.max_tokens, room)
        completions = generate(
            self.model, inputs, max_tokens, sampling.temperature, self.eos_token_ids, top_p=sampling.top_p
        )
        decoded = text_tokenizer(self.tokenizer).batch_decode(completions, skip_special_tokens=True)
        return [
            Sample(text, ids, not set(self.eos_token_ids).intersection(ids))
            for text, ids in zip(decoded, completions, strict=True)
        ]

    def _room(self, mask: torch.Tensor, places: list[int]) -> int:
        positions, length = positions_of(self.model.config), mask.shape[1]
        if reason := too_long(length, positions):
            raise PromptError(places[int(mask.sum(dim=1).argmax())], reason)
        return self.sampling.max_tokens if positions is None else positions - length


class VllmSampler:
    """
    Samples by vLLM.

    Args:
        model (`str`):
            Local folder or name on the Hub.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer, or the processor of a model that sees.
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
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
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

    def sample(self, prompts: list, count: int, seed: int, pictures: list[list] | None = None) -> list[list[Sample]]:
        """As [`TransformersSampler.sample`], with a seed per completion, so that its neighbours do not matter."""
        from vllm import SamplingParams

        requests, params = [], []
        for number, request in enumerate(self._requests(prompts, pictures)):
            for repetition in range(count):
                requests.append(request)
                params.append(
                    SamplingParams(
                        temperature=self.sampling.temperature,
                        top_p=self.sampling.top_p,
                        max_tokens=self.sampling.max_tokens,
                        seed=derived_seed(seed, number, repetition),
                    )
                )
        try:
            outputs = [output.outputs[0] for output in self.engine.generate(requests, params, use_tqdm=False)]
        except ValueError as error:
            longest = max(range(len(prompts)), key=lambda index: len(requests[index * count]["prompt_token_ids"]))
            raise PromptError(longest, f"the longest prompt of those that vLLM refused: {error}") from None
        samples = [Sample(o.text, list(o.token_ids), o.finish_reason == "length") for o in outputs]
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def _requests(self, prompts: list, pictures: list[list] | None) -> list[dict[str, Any]]:
        seen = pictures is not None and any(pictures)
        if pictures is not None and seen:
            prompts = [prepare_multimodal_messages(*pair) for pair in zip(prompts, pictures, strict=True)]
        rendered = render_prompts(self.tokenizer, prompts, self.template_kwargs)
        # One token for each picture; vLLM puts in as many as the picture takes.
        ids: Any = text_tokenizer(self.tokenizer)(rendered, add_special_tokens=isinstance(prompts[0], str))
        requests: list[dict[str, Any]] = [{"prompt_token_ids": of_prompt} for of_prompt in ids["input_ids"]]
        if pictures is not None and seen:
            for request, shown in zip(requests, pictures, strict=True):
                if shown:
                    request["multi_modal_data"] = {"image": shown}
        return requests


def positions_of(config: PretrainedConfig) -> int | None:
    """Longest sequence of a model in tokens, where its configuration says one; that of the text, if it also sees."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def too_long(length: int, positions: int | None) -> str | None:
    """Why a prompt leaves no room for an answer; `None` if it does."""
    if positions is None or length < positions:
        return None
    return f"a prompt has {length} tokens, the model {positions} positions"


def end_tokens(of_model: int | list[int] | None, tokenizer: PreTrainedTokenizerBase | ProcessorMixin) -> list[int]:
    """
    Token ids that end a completion.

    Args:
        of_model (`int` or `list[int]`, *optional*):
            Those of the model's generation configuration.
        tokenizer (`PreTrainedTokenizerBase`):
            Its own one is added; of a processor, that of its tokenizer.

    Returns:
        `list[int]`
    """
    ids = of_model if isinstance(of_model, list) else [of_model]
    eos: Any = text_tokenizer(tokenizer).eos_token_id
    return sorted({token for token in [*ids, eos] if token is not None})


def gpu_with_vllm() -> bool:
    """Whether there is a GPU and vLLM beside it."""
    from importlib.util import find_spec

    return torch.cuda.is_available() and find_spec("vllm") is not None
