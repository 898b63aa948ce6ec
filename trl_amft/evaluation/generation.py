"""Sampling from a model of transformers without leaving a trace in a run: prompts in, token ids out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model
from transformers import (
    BatchEncoding,
    BatchFeature,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from trl.data_utils import prepare_multimodal_messages


# What a model's generation settings say of tokens and of lengths.
TOKENS, LENGTHS = ("bos_token_id", "eos_token_id", "pad_token_id"), ("max_length", "max_new_tokens")
NO_TOKENIZER = "has no tokenizer that makes tokens of a text; put its files beside the weights, tokenizer.json for one"


@contextmanager
def undisturbed(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Seeded evaluation mode; afterwards the random state and every module's training flag are what they were."""
    training = {module: module.training for module in model.modules()}
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            for module, flag in training.items():
                module.training = flag


@contextmanager
def bare_settings(model: PreTrainedModel, with_length: bool) -> Iterator[None]:
    """
    Without what a model's generation settings say of sampling, such as a penalty for repetitions: `generate` would
    take from there whatever it is not told, which neither vLLM nor the rollouts of a training do.

    Args:
        model (`PreTrainedModel`):
            Has its own settings again afterwards.
        with_length (`bool`):
            Keep its longest completion.
    """
    owner: Any = model
    if is_peft_model(model):
        owner = owner.get_base_model()
    own = owner.generation_config
    names = TOKENS + LENGTHS if with_length else TOKENS
    owner.generation_config = GenerationConfig(**{name: getattr(own, name) for name in names})
    try:
        yield
    finally:
        owner.generation_config = own


def text_tokenizer(reader: PreTrainedTokenizerBase | ProcessorMixin) -> PreTrainedTokenizerBase:
    """The tokenizer of a processor; a tokenizer as it is."""
    words: Any = getattr(reader, "tokenizer", reader)
    return words


def makes_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """False for what transformers makes of a folder without the files of a tokenizer: one that knows no word."""
    return len(tokenizer("a b: 1 + 2 = 3", add_special_tokens=False)["input_ids"]) > 0


def render_prompts(
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin, prompts: list, template_kwargs: dict
) -> list[str]:
    """
    Prompts as the model reads them.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Has the chat template.
        prompts (`list[str]` or `list[list[dict]]`):
            Texts, which stay as they are, or conversations, which go through the template.
        template_kwargs (`dict`):
            Arguments of the chat template.

    Returns:
        `list[str]`
    """
    if isinstance(prompts[0], str):
        return list(prompts)
    # What a template gives depends on its arguments.
    rendered: Any = tokenizer.apply_chat_template(
        prompts, tokenize=False, add_generation_prompt=True, **template_kwargs
    )
    return rendered


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
    prompts: list,
    template_kwargs: dict,
    pictures: list[list] | None = None,
) -> BatchEncoding | BatchFeature:
    """
    Prompts as token ids, padded on the left.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            With a pad token; a processor where there are pictures.
        prompts (`list[str]` or `list[list[dict]]`):
            Texts or conversations.
        template_kwargs (`dict`):
            Arguments of the chat template.
        pictures (`list[list]`, *optional*):
            Those of each conversation.

    Returns:
        `BatchEncoding`: `input_ids` and `attention_mask` of shape (num_prompts, longest_prompt), and with pictures
        what the processor makes of them.
    """
    if pictures is not None and any(pictures):
        read: Any = tokenizer.apply_chat_template(
            [prepare_multimodal_messages(prompt, shown) for prompt, shown in zip(prompts, pictures, strict=True)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
            **template_kwargs,
        )
        return read
    # A processor would take texts for pictures. A chat template writes the special tokens itself.
    return text_tokenizer(tokenizer)(
        render_prompts(tokenizer, prompts, template_kwargs),
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=isinstance(prompts[0], str),
    )


def generate(
    model: PreTrainedModel,
    prompts: BatchEncoding | BatchFeature,
    max_completion_length: int | None,
    temperature: float,
    eos_token_ids: list[int],
    top_p: float = 1.0,
) -> list[list[int]]:
    """
    One completion per prompt, of the distribution that the arguments say, whatever the model's generation settings
    say of sampling.

    Args:
        model (`PreTrainedModel`):
            The model.
        prompts (`BatchEncoding`):
            From [`tokenize_prompts`].
        max_completion_length (`int`, *optional*):
            Longest completion in tokens; `None` leaves it to the model's generation settings.
        temperature (`float`):
            Sampling temperature; 0 takes the likeliest token.
        eos_token_ids (`list[int]`):
            Token ids that end a completion.
        top_p (`float`, *optional*, defaults to `1.0`):
            Share of probability that is sampled from.

    Returns:
        `list[list[int]]`: up to and including the first end-of-sequence token.
    """
    inputs: Any = prompts.to(model.device)
    # Mixed into the classes of the models, which type checkers do not see.
    sampler: Any = model
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": top_p}
    if temperature <= 0:
        sampling = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    # As in training: a token that stands for a picture has no picture in an answer.
    picture = {"suppress_tokens": [model.config.image_token_id]} if "pixel_values" in inputs else {}
    length = {} if max_completion_length is None else {"max_new_tokens": max_completion_length}
    with bare_settings(model, with_length=not length):
        sequences = sampler.generate(
            **inputs,
            **length,
            eos_token_id=eos_token_ids,
            use_cache=True,
            **picture,
            **sampling,
        )
    completions = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    ends = [next((n for n, token in enumerate(ids) if token in eos_token_ids), len(ids)) for ids in completions]
    return [ids[: end + 1] for ids, end in zip(completions, ends, strict=True)]
