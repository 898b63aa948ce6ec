"""The demonstrations of a recipe on a sample: what the model sees, how many are usable, and how rewards like them."""

import statistics

from transformers import AutoProcessor, PreTrainedTokenizerBase, ProcessorMixin

from ..cli.arguments import Recipe
from ..cli.data import RunData
from ..compat import as_mapping
from ..demonstrations.pictures import pictures_of
from ..demonstrations.tokenizer import COMPLETION_IDS, PROMPT_IDS, STATUS, DemonstrationTokenizer
from ..runtime.input_checks import needs_demonstrations
from ..runtime.self_check import token_problems
from ..tiny_model import build_tiny_model
from .data import SAMPLE, first_rows, shorten, template_options
from .findings import NOTE, OK, Finding, first_line, problem
from .rewards import check_rewards


SCORED = 16


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
            return None, Finding(
                NOTE, f"processor of {name!r} cannot be loaded ({first_line(error)}); demonstrations not checked"
            )
    return processor if isinstance(processor, ProcessorMixin) else None, None


def check_demonstrations(recipe: Recipe, data: RunData, tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """What a demonstration is to the model, how many are too long, and how the rewards like them."""
    args = recipe.training
    if not needs_demonstrations(args):
        return [Finding(OK, "demonstrations: none needed")]
    separate = data.demonstration_dataset
    column = None if separate is not None else args.demonstration_column
    rows = first_rows(separate if separate is not None else data.train_dataset, SAMPLE)
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
        template_options(recipe),
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
        Finding(OK, f"without loss: {shorten(str(tokenizer.decode(usable[0][PROMPT_IDS])))!r}"),
        Finding(OK, f"with loss: {shorten(str(tokenizer.decode(usable[0][COMPLETION_IDS])))!r}"),
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
    return found + check_rewards(args, data, scored, column)
