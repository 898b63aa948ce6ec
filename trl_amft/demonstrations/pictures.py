"""
Pictures of demonstrations: which ones a row has, and what the model takes in of them beside token ids.

A row has them as TRL's prompts have: one in the column `image`, or a list in the column `images`. Messages say with
`{"type": "image"}` where each belongs; without that they stand before the first words of the user.
"""

import hashlib
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import ProcessorMixin
from trl.data_utils import prepare_multimodal_messages


# Columns of a row with one picture, and with a list of them.
PICTURE_COLUMNS = ("image", "images")
# What processors tell about every token, besides its id.
TOKEN_FIELDS = ("token_type_ids", "mm_token_type_ids")


def pictures_of(example: dict[str, Any]) -> list:
    """
    Args:
        example (`dict[str, Any]`):
            A row, of whatever columns.

    Returns:
        `list`: its pictures; empty if it has none.
    """
    if example.get("images"):
        return list(example["images"])
    return [] if example.get("image") is None else [example["image"]]


def place_pictures(
    prompt: str | list[dict], completion: str | list[dict], pictures: list, processor: ProcessorMixin | None
) -> tuple[list[dict], list[dict]]:
    """
    Put the pictures of a demonstration into its prompt.

    Args:
        prompt (`list[dict]`), completion (`list[dict]`):
            Messages.
        pictures (`list`):
            At least one.
        processor ([`~transformers.ProcessorMixin`], *optional*):
            The policy's; `None` where it reads text only.

    Returns:
        `tuple[list[dict], list[dict]]`: both with content in parts.

    Raises:
        `ValueError`: one line, where the prompt is plain text, pictures and places do not match, or nothing reads
        pictures.
    """
    count = f"a demonstration has {len(pictures)} picture(s)"
    if processor is None:
        raise ValueError(
            f"{count}, and the model has a tokenizer only: take a model that sees, or drop the columns 'image' and "
            "'images'"
        )
    if isinstance(prompt, str) or isinstance(completion, str):
        raise ValueError(f"{count} and plain text as its prompt: give messages, which have a place for them")
    try:
        return prepare_multimodal_messages(prompt, pictures), prepare_multimodal_messages(completion)
    except ValueError:
        raise ValueError(
            f"{count}, but not as many places for them in its prompt: give one {{'type': 'image'}} for each, in the "
            "turns of the user, or words only"
        ) from None


def picture_inputs(
    processor: ProcessorMixin, prompts: list[list[dict]], length: int, template_kwargs: dict[str, Any]
) -> dict[str, Tensor]:
    """
    What the model takes in beside token ids, for rows that are padded on the right.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            The policy's.
        prompts (`list[list[dict]]`):
            Messages with their pictures in place, of (batch_size,) rows.
        length (`int`):
            Length of the padded rows, prompt and completion together.
        template_kwargs (`dict[str, Any]`):
            Arguments of the chat template.

    Returns:
        `dict[str, torch.Tensor]`: `pixel_values` and whatever else the processor gives with them. Fields of tokens
        have the shape (batch_size, length), with 0 after the prompt.
    """
    read: Any = processor.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
        **template_kwargs,
    )
    inputs = dict(read)
    del inputs["input_ids"]
    mask = inputs.pop("attention_mask").bool()
    for name in TOKEN_FIELDS:
        if name in inputs:
            padded = torch.zeros(len(prompts), length, dtype=inputs[name].dtype)
            for row, (values, kept) in enumerate(zip(inputs[name], mask, strict=True)):
                padded[row, : kept.sum()] = values[kept]
            inputs[name] = padded
    return inputs


def pictures_digest(example: dict[str, Any]) -> str:
    """
    Args:
        example (`dict[str, Any]`):
            A row, of whatever columns.

    Returns:
        `str`: the same for the same pictures; empty where there is none.
    """
    pictures = pictures_of(example)
    digest = hashlib.sha1()
    for picture in pictures:
        if isinstance(picture, Image):
            digest.update(f"{picture.mode} {picture.size}".encode() + picture.tobytes())
        else:
            digest.update(repr(picture).encode())
    return digest.hexdigest() if pictures else ""
