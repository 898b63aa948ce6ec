"""The data of a recipe on a sample: columns, lengths, chat template, demonstrations, and how the rewards like them."""

import statistics
from collections.abc import Callable
from itertools import filterfalse
from types import SimpleNamespace
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
from trl.data_utils import is_conversational
from trl.trainer.utils import is_async_callable

from ..cli.arguments import Recipe
from ..cli.data import RunData
from ..compat import as_mapping
from ..demonstrations.pictures import pictures_of
from ..demonstrations.tokenizer import COMPLETION_IDS, PROMPT_IDS, STATUS, DemonstrationTokenizer, to_prompt_completion
from ..evaluation.generation import NO_TOKENIZER, makes_tokens
from ..runtime.input_checks import needs_demonstrations
from ..runtime.self_check import token_problems
from ..tiny_model import build_character_tokenizer, build_tiny_model
from .findings import NOTE, OK, Finding, problem


SAMPLE = 256
SCORED = 16
CALLED = 4


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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return None, Finding(NOTE, f"tokenizer of {name!r} is not reachable from here ({reason}); lengths not checked")
    return (tokenizer, None) if makes_tokens(tokenizer) else (None, problem(f"{name!r} {NO_TOKENIZER}"))


def load_processor(recipe: Recipe) -> tuple[ProcessorMixin | None, Finding | None]:
    """What reads pictures for the policy, `None` if nothing does; with a line where that cannot be found out."""
    if recipe.run.tiny_model is not None:
        processor = build_tiny_model(**as_mapping(recipe.run.tiny_model))[1]
    else:
        name = recipe.model.model_name_or_path
        try:
            processor = AutoProcessor.from_pretrained(name, revision=recipe.model.model_revision)
        # Processors fail in as many ways as tokenizers.
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return None, Finding(
                NOTE, f"processor of {name!r} cannot be loaded ({reason}); demonstrations not checked"
            )
    return processor if isinstance(processor, ProcessorMixin) else None, None


def check_prompts(recipe: Recipe, data: RunData, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Finding], int]:
    """
    Returns:
        `tuple[list[Finding], int]`: the lines, and the longest prompt of the sample in tokens.
    """
    rows = _first_rows(data.train_dataset, SAMPLE)
    chat = is_conversational(rows[0])
    if chat and not tokenizer.chat_template:
        return [
            problem(
                "prompts are messages, but the tokenizer has no chat template: use the model's instruct version, or "
                "plain text in the column prompt"
            )
        ], 0
    options = _template_options(recipe)
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
        Finding(OK, f"prompt as the model sees it: {_shorten(texts[0])!r}"),
    ]
    empty = sum(not str(row["prompt"]).strip() or row["prompt"] == [] for row in rows)
    if empty:
        found.append(problem(f"{empty} of {len(rows)} prompts are empty: drop these rows"))
    return found, max(lengths)


def check_demonstrations(recipe: Recipe, data: RunData, tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """What a demonstration is to the model, how many are too long, and how the rewards like them."""
    args = recipe.training
    if not needs_demonstrations(args):
        return [Finding(OK, "demonstrations: none needed")]
    separate = data.demonstration_dataset
    column = None if separate is not None else args.demonstration_column
    rows = _first_rows(separate if separate is not None else data.train_dataset, SAMPLE)
    processor = None
    if any(map(pictures_of, rows)):
        processor, line = load_processor(recipe)
        if line is not None:
            return [line]
    tokenize = DemonstrationTokenizer(
        tokenizer,
        [tokenizer.eos_token_id],
        int(args.max_demonstration_length or 0),
        args.demonstration_truncation == "truncate",
        column,
        _template_options(recipe),
        processor,
    )
    try:
        tokenized = [tokenize(row) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        return [problem(f"demonstrations: {error}")]
    usable = [row for row in tokenized if row[STATUS] in ("used", "truncated")]
    counts = {
        status: sum(row[STATUS] == status for row in tokenized) for status in ("absent", "too_long", "truncated")
    }
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    text = f"demonstrations: {len(usable)} of {len(rows)} usable" + (f" ({shown})" if shown else "")
    if not usable:
        return [problem(f"{text}: raise max_demonstration_length={args.max_demonstration_length}, or fill the column")]
    lengths = [len(row[COMPLETION_IDS]) for row in usable]
    found = [
        Finding(OK, text),
        Finding(
            OK,
            f"their tokens: median {statistics.median(lengths):g}, max {max(lengths)}, limit "
            f"{args.max_demonstration_length}",
        ),
        Finding(OK, f"without loss: {_shorten(str(tokenizer.decode(usable[0][PROMPT_IDS])))!r}"),
        Finding(OK, f"with loss: {_shorten(str(tokenizer.decode(usable[0][COMPLETION_IDS])))!r}"),
    ]
    if counts["too_long"] * 2 > len(rows):
        found.append(
            problem(
                f"{counts['too_long']} of {len(rows)} demonstrations are dropped as too long: raise "
                f"max_demonstration_length={args.max_demonstration_length}"
            )
        )
    found += [problem(text) for text in token_problems(tokenizer, args, usable)]
    scored = [row for row, whole in zip(rows, tokenized, strict=True) if whole[STATUS] != "absent"][:SCORED]
    return found + check_rewards(data, scored, column)


def check_rewards(data: RunData, rows: list[dict[str, Any]], column: str | None) -> list[Finding]:
    """
    Score demonstrations as if the policy had written them.

    Args:
        data ([`~trl_amft.cli.data.RunData`]):
            Holds the rewards.
        rows (`list[dict[str, Any]]`):
            Rows with a demonstration.
        column (`str`, *optional*):
            Column of paired demonstrations.
    """
    pairs = [to_prompt_completion(row, column) for row in rows]
    given: dict[str, list[Any]] = {
        "prompts": [pair["prompt"] for pair in pairs if pair],
        "completions": [pair["completion"] for pair in pairs if pair],
    }
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion", "messages")}
    found = []
    for reward in data.reward_funcs:
        name = getattr(reward, "__name__", str(reward))
        values, failure = _scored(reward, given | columns, len(rows))
        if failure is not None:
            found.append(
                Finding(
                    NOTE,
                    f"reward {name} cannot score demonstrations ({failure}); give them the columns that it reads, or "
                    "check the function",
                )
            )
            continue
        known = [value for value in values if value is not None]
        mean = statistics.fmean(known) if known else 0.0
        text = f"reward {name}: mean {mean:.3g} on {len(known)} demonstrations"
        if known and max(known) <= 0.0 and reward in data.accuracy_funcs:
            found.append(problem(f"{text}, none positive: check that it reads the format of demonstrations"))
        else:
            found.append(Finding(OK, text))
    return found


def check_reward_calls(data: RunData) -> list[Finding]:
    """Call every reward on the first training rows with a completion that says nothing."""
    rows = _first_rows(data.train_dataset, CALLED)
    chat = is_conversational(rows[0])
    completion: Any = [{"role": "assistant", "content": "?"}] if chat else "?"
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion")}
    given = {"prompts": [row["prompt"] for row in rows], "completions": [completion] * len(rows)}
    found = []
    for reward in filterfalse(is_async_callable, data.reward_funcs):
        _, failure = _scored(reward, given | columns, len(rows))
        if failure is not None:
            name = getattr(reward, "__name__", str(reward))
            found.append(
                problem(f"reward {name} fails on the completion '?' of a training prompt ({failure}): fix it")
            )
    return found


def _scored(reward: Callable[..., Any], given: dict[str, Any], count: int) -> tuple[list[float | None], str | None]:
    nothing = {
        "completion_ids": [[]] * count,
        "trainer_state": SimpleNamespace(global_step=0, max_steps=1, epoch=0.0),
        "log_extra": lambda *_: None,
        "log_metric": lambda *_: None,
    }
    try:
        values = list(reward(**given, **nothing))
    # A reward is the user's code.
    except Exception as error:
        return [], f"{type(error).__name__}: {error}".splitlines()[0]
    if len(values) != count:
        return [], f"it gives {len(values)} rewards for {count} completions"
    wrong = [value for value in values if value is not None and not hasattr(value, "__float__")]
    return ([], f"it gives {wrong[0]!r}, which is no number") if wrong else (values, None)


def _first_rows(dataset: Dataset | IterableDataset, count: int) -> list[dict[str, Any]]:
    return (
        list(dataset.take(count))
        if len_or_none(dataset) is None
        else list(dataset.select(range(min(count, len(dataset)))))
    )


def _template_options(recipe: Recipe) -> dict[str, Any]:
    options = recipe.training.chat_template_kwargs
    return dict(options) if isinstance(options, dict) else {}


def len_or_none(dataset: Dataset | IterableDataset) -> int | None:
    """Number of rows; `None` for a stream."""
    return len(dataset) if isinstance(dataset, Dataset) else None


def _shorten(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"
