"""The data of a recipe on a sample: columns, lengths, chat template."""

import statistics
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl.data_utils import is_conversational

from ..cli.arguments import Recipe
from ..cli.data import RunData
from ..evaluation.generation import NO_TOKENIZER, makes_tokens
from ..tiny_model import build_character_tokenizer
from .findings import NOTE, OK, Finding, first_line, problem


SAMPLE = 256


def check_schema(data: RunData) -> list[Finding]:
    """Sizes and columns of every set."""
    found = []
    for name in ("train_dataset", "held_out_dataset", "validation_dataset", "demonstration_dataset"):
        dataset = getattr(data, name)
        if dataset is not None:
            size = f"{len(dataset):,} rows" if isinstance(dataset, Dataset) else "streamed"
            columns = ", ".join(dataset.column_names or ["unknown before the first row"])
            found.append(Finding(OK, f"{name}: {size}; columns {columns}"))
    train, held_out = data.train_dataset, data.held_out_dataset
    # Prompts that differ in their pictures only are the same in words.
    shown = {"image", "images"} & set(train.column_names or [])
    if isinstance(train, Dataset) and isinstance(held_out, Dataset) and not shown:
        trained = {str(prompt) for prompt in train["prompt"]}
        overlap = sum(str(prompt) in trained for prompt in held_out["prompt"])
        if overlap:
            found.append(
                problem(
                    f"{overlap} of {len(held_out)} held-out prompts are also trained on: take them out "
                    "of one of the two sets"
                )
            )
    return found


def load_tokenizer(recipe: Recipe) -> tuple[PreTrainedTokenizerBase | None, Finding | None]:
    """The policy's tokenizer; `None` and a line where it cannot be reached."""
    if recipe.run.tiny_model is not None:
        return build_character_tokenizer(), None
    name = recipe.model.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=recipe.model.model_revision)
    # Tokenizers fail in many ways: network, missing files, missing packages.
    except Exception as error:
        return None, Finding(
            NOTE, f"tokenizer of {name!r} is not reachable from here ({first_line(error)}); lengths not checked"
        )
    return (tokenizer, None) if makes_tokens(tokenizer) else (None, problem(f"{name!r} {NO_TOKENIZER}"))


def check_prompts(recipe: Recipe, data: RunData, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Finding], int]:
    """
    Returns:
        `tuple[list[Finding], int]`: the lines, and the longest prompt of the sample in tokens.
    """
    rows = first_rows(data.train_dataset, SAMPLE)
    chat = is_conversational(rows[0])
    if chat and not tokenizer.chat_template:
        return [
            problem(
                "prompts are messages, but the tokenizer has no chat template: use the model's instruct version, or "
                "plain text in the column prompt"
            )
        ], 0
    options = template_options(recipe)
    try:
        texts: list[str] = [
            str(tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True, **options))
            if chat
            else row["prompt"]
            for row in rows
        ]
    # Templates are programs of many authors.
    except Exception as error:
        return [
            problem(f"the chat template fails on a prompt ({type(error).__name__}: {error}): check its messages")
        ], 0
    lengths = [len(tokenizer(text=text, add_special_tokens=not chat)["input_ids"]) for text in texts]
    found = [
        Finding(
            OK,
            f"prompts ({'chat' if chat else 'plain text'}): tokens of {len(rows)}: median "
            f"{statistics.median(lengths):g}, max {max(lengths)}",
        ),
        Finding(OK, f"prompt as the model sees it: {shorten(texts[0])!r}"),
    ]
    empty = sum(not str(row["prompt"]).strip() or row["prompt"] == [] for row in rows)
    if empty:
        found.append(problem(f"{empty} of {len(rows)} prompts are empty: drop these rows"))
    return found, max(lengths)


def first_rows(dataset: Dataset | IterableDataset, count: int) -> list[dict[str, Any]]:
    """At most so many rows from the start."""
    return (
        list(dataset.take(count))
        if len_or_none(dataset) is None
        else list(dataset.select(range(min(count, len(dataset)))))
    )


def template_options(recipe: Recipe) -> dict[str, Any]:
    """What the recipe tells the chat template."""
    options = recipe.training.chat_template_kwargs
    return dict(options) if isinstance(options, dict) else {}


def len_or_none(dataset: Dataset | IterableDataset) -> int | None:
    """Number of rows; `None` for a stream."""
    return len(dataset) if isinstance(dataset, Dataset) else None


def shorten(text: str, limit: int = 160) -> str:
    """Start and end of a long text."""
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"
