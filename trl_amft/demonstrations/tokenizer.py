"""
Demonstrations as token ids: from the columns that users have to a prompt and a labelled completion.

A demonstration is rendered like a rollout: the same generation prompt before it, EOS as its last token. Prompt tokens
carry no label.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin
from trl.data_utils import is_conversational

from .. import __version__
from ..losses import IGNORE_INDEX
from .pictures import picture_inputs, pictures_of, place_pictures
from .weights import weight_of


PROMPT_IDS = "demonstration_prompt_ids"
COMPLETION_IDS = "demonstration_completion_ids"
PICTURES = "demonstration_pictures"
STATUS = "demonstration_status"

THINK = "<think>"

NO_PICTURE = (
    "a demonstration has a part of type={!r} in its messages and nothing to put there: give pictures in the column "
    "'image' or 'images'; parts of other types are not supported"
)


def to_prompt_completion(example: dict[str, Any], column: str | None = None) -> dict[str, Any] | None:
    """
    Bring a row to `prompt` and `completion`.

    Args:
        example (`dict[str, Any]`):
            Row with `prompt` and `completion`, or with `messages` (whose last turn is the completion), or, if
            `column` is given, with `prompt` and the paired demonstration in that column. Standard or conversational.
        column (`str`, *optional*):
            Column of the paired demonstration.

    Returns:
        `dict[str, Any]`, *optional*: `None` where the row has no demonstration.
    """
    if column is not None:
        prompt, completion = example["prompt"], example[column]
    elif "messages" in example and "completion" not in example:
        prompt, completion = example["messages"][:-1], example["messages"][-1:]
    else:
        prompt, completion = example["prompt"], example["completion"]
    if not completion or not prompt:
        return None
    if isinstance(prompt, list) and isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    if isinstance(prompt, str) and isinstance(completion, list):
        raise ValueError(
            "a demonstration has a prompt of text and a completion of messages: make the prompt a list of messages, "
            "[{'role': 'user', 'content': …}], or the completion a text"
        )
    if isinstance(completion, list) and not any(
        message.get("content") or message.get("tool_calls") for message in completion
    ):
        return None
    return {"prompt": prompt, "completion": completion}


@dataclass
class DemonstrationTokenizer:
    """
    Tokenizes a demonstration the way the trainer tokenizes its rollouts.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The policy's tokenizer.
        eos_token_ids (`list[int]`):
            Token ids that end a completion.
        max_length (`int`):
            Longest completion in tokens, EOS included.
        truncate (`bool`):
            Cut longer completions instead of dropping them.
        column (`str`, *optional*):
            Column of paired demonstrations; `None` for a separate set.
        template_kwargs (`dict[str, Any]`, *optional*):
            Arguments of `apply_chat_template` (tools, chat template and the user's own).
        processor ([`~transformers.ProcessorMixin`], *optional*):
            The policy's, if it sees.
        tools_of (`dict[str, list]`, *optional*):
            Tools by environment, where there are several; a row says in `environment` which one it is from.
        version (`str`, *optional*):
            Release of this package: what another one tokenized is not taken from a cache.
    """

    tokenizer: Any
    eos_token_ids: list[int]
    max_length: int
    truncate: bool
    column: str | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    processor: ProcessorMixin | None = None
    tools_of: dict[str, list] = field(default_factory=dict)
    version: str = __version__

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        """
        Returns:
            `dict[str, Any]`: `prompt`, `completion`, their token ids, how many pictures there are, and a status:
            `"used"`, `"truncated"`, `"too_long"`, `"zero_weight"` or `"absent"`.

        Raises:
            `ValueError`: if the completion holds tool results, whose tokens the policy must not imitate, if pictures
            and messages do not fit together, or if a weight is no number from 0 on.
        """
        row = to_prompt_completion(example, self.column)
        if row is None:
            absent: dict[str, Any] = {"prompt": None, "completion": None, PROMPT_IDS: [], COMPLETION_IDS: []}
            return {**absent, PICTURES: 0, STATUS: "absent"}
        pictures, options = pictures_of(example), self._options(example)
        if pictures:
            shown = place_pictures(row["prompt"], row["completion"], pictures, self.processor)
            prompt_ids, completion_ids = self._conversational(*shown, self.processor, options)
        elif is_conversational(row):
            pair = row["prompt"], row["completion"]
            prompt_ids, completion_ids = self._conversational(*pair, self.tokenizer, options)
        else:
            prompt_ids = self.tokenizer(text=row["prompt"])["input_ids"]
            completion_ids = self.tokenizer(text=row["completion"], add_special_tokens=False)["input_ids"]
        completion_ids = self._close(completion_ids)
        status = "used"
        if len(completion_ids) > self.max_length:
            status = "truncated" if self.truncate else "too_long"
            completion_ids = completion_ids[: self.max_length]
        if weight_of(example) == 0.0:
            status = "zero_weight"
        ids = {PROMPT_IDS: prompt_ids, COMPLETION_IDS: completion_ids}
        return {**row, **ids, PICTURES: len(pictures), STATUS: status}

    def picture_inputs(self, rows: list[dict[str, Any]], length: int) -> dict[str, Tensor]:
        """
        See [`~trl_amft.demonstrations.pictures.picture_inputs`].

        Args:
            rows (`list[dict[str, Any]]`):
                Tokenized, all with pictures or all without.
            length (`int`):
                Length of the padded rows.

        Returns:
            `dict[str, torch.Tensor]`: empty for rows without pictures.
        """
        if self.processor is None or not rows or not rows[0][PICTURES]:
            return {}
        prompts = [
            place_pictures(row["prompt"], row["completion"], pictures_of(row), self.processor)[0] for row in rows
        ]
        return picture_inputs(self.processor, prompts, length, self.template_kwargs)

    def _options(self, example: dict[str, Any]) -> dict[str, Any]:
        """Arguments of the template for one row."""
        if not self.tools_of:
            return self.template_kwargs
        name = example.get("environment")
        if name not in self.tools_of or pictures_of(example):
            raise ValueError(
                f"a demonstration has environment={name!r} and {len(pictures_of(example))} pictures: with several "
                f"environments give one of {', '.join(self.tools_of)}, and no pictures"
            )
        return {**self.template_kwargs, "tools": self.tools_of[name] or None}

    def _conversational(
        self, prompt: list[dict], completion: list[dict], processor: Any, options: dict[str, Any]
    ) -> tuple[list[int], list[int]]:
        known = ("text",) if processor is self.tokenizer else ("text", "image")
        for message in [*prompt, *completion]:
            content = message.get("content")
            for part in content if isinstance(content, list) else []:
                if part["type"] not in known:
                    raise ValueError(NO_PICTURE.format(part["type"]))
        for message in completion:
            if message["role"] != "assistant":
                raise ValueError(
                    f"a demonstration's completion holds role={message['role']!r}, whose tokens the policy must not "
                    "imitate: keep assistant turns only"
                )
        render = processor.apply_chat_template
        prompt_text = render(prompt, tokenize=False, add_generation_prompt=True, **options)
        full_text = render([*prompt, *completion], tokenize=False, **options)
        if full_text.startswith(prompt_text):
            completion_text = full_text[len(prompt_text) :]
        else:
            # Some templates write into the generation prompt what they omit from finished turns (a thinking tag).
            # Rollouts start after the generation prompt, so demonstrations do as well, without a second tag.
            for message in completion:
                for part in ("tool_calls", "reasoning_content"):
                    if message.get(part):
                        raise ValueError(
                            f"a demonstration's completion holds {part!r}, which is lost because the chat template "
                            "begins a finished turn otherwise than one to be generated: write it into 'content', or "
                            "take another chat template"
                        )
            completion_text = "".join(_text(message.get("content")) for message in completion)
            completion_text = without_opened_tag(prompt_text, completion_text)
        tokenize = lambda text: self.tokenizer(text=text, add_special_tokens=False)["input_ids"]  # noqa: E731
        if processor is self.tokenizer:
            return tokenize(prompt_text), tokenize(completion_text)
        # As rollouts are: every picture becomes as many tokens as the model makes of it.
        ids = render([prompt], tokenize=True, return_dict=True, add_generation_prompt=True, **options)["input_ids"][0]
        return ids, tokenize(completion_text)

    def _close(self, ids: list[int]) -> list[int]:
        """End at the last EOS (templates may write a line break after it); append one where there is none."""
        for position in range(len(ids) - 1, -1, -1):
            if ids[position] in self.eos_token_ids:
                return ids[: position + 1]
        return [*ids, self.tokenizer.eos_token_id]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    """Text of a message, whose content may be given in parts."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else content or ""


def without_opened_tag(prompt: str, completion: str) -> str:
    """
    Drop the thinking tag of a completion where the prompt has opened it.

    Args:
        prompt (`str`):
            Rendered prompt, possibly ending in the tag and white space.
        completion (`str`):
            Completion, possibly starting with the tag.

    Returns:
        `str`: the completion without the tag, and without the white space after it that the prompt has as well.
    """
    if not prompt.rstrip().endswith(THINK) or not completion.lstrip().startswith(THINK):
        return completion
    space = prompt[len(prompt.rstrip()) :]
    return completion.lstrip().removeprefix(THINK).removeprefix(space)


def collate_demonstrations(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """
    Pad demonstrations on the right.

    Args:
        rows (`list[dict[str, Any]]`):
            Tokenized rows. An empty list gives one dummy row without a label, because every process must run the
            same number of forward and backward passes.
        pad_token_id (`int`):
            Padding token.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `attention_mask` and `labels`, each of shape (batch_size, seq_len).
    """
    sequences = [(row[PROMPT_IDS], row[COMPLETION_IDS]) for row in rows] or [([pad_token_id, pad_token_id], [])]
    length = max(len(prompt) + len(completion) for prompt, completion in sequences)
    input_ids = torch.full((len(sequences), length), pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    for index, (prompt, completion) in enumerate(sequences):
        end = len(prompt) + len(completion)
        input_ids[index, :end] = torch.tensor([*prompt, *completion])
        attention_mask[index, :end] = 1
        labels[index, len(prompt) : end] = torch.tensor(completion, dtype=labels.dtype)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def check_columns(columns: list[str] | None, column: str | None) -> None:
    """
    Refuse a demonstration set without the columns that are needed.

    Raises:
        `ValueError`: one line with the columns found and those expected.
    """
    if columns is None:
        return
    if column is not None:
        expected: Callable[[set[str]], bool] = lambda found: {"prompt", column} <= found  # noqa: E731
        wanted = f"'prompt' and '{column}'"
    else:
        expected = lambda found: {"prompt", "completion"} <= found or "messages" in found  # noqa: E731
        wanted = "'prompt' and 'completion', or 'messages'"
    if not expected(set(columns)):
        name = "demonstration_dataset" if column is None else "train_dataset"
        raise ValueError(f"{name}: found columns {sorted(columns)}, expected {wanted}: rename them")
