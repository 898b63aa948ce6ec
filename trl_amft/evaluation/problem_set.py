"""A set of problems, and whether a model can read its prompts, which is told before weights are loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..demonstrations.pictures import PICTURE_COLUMNS, pictures_of
from .checkpoint import Checkpoint
from .errors import EvaluationError, unanswerable
from .generation import render_prompts, text_tokenizer, tokenize_prompts
from .samplers import positions_of, too_long


AT_ONCE = 256


@dataclass(frozen=True)
class ProblemSet:
    """
    A set with its problems.

    Args:
        name (`str`):
            Name of its files.
        samples (`int`):
            Completions per problem.
        dataset (`Dataset`):
            Problems, at least one.
        reward_funcs (`list[Callable]`):
            Rewards that grade them.
        route_lengths (`Mapping[int, int]`, *optional*):
            Positions of each route of the whole set, of which `dataset` may be a part.
        task_kwargs (`dict[str, Any]`, *optional*):
            Arguments of its task, on which rewards depend as well.
    """

    name: str
    samples: int
    dataset: Dataset
    reward_funcs: list[Callable]
    route_lengths: Mapping[int, int] = field(default_factory=dict)
    task_kwargs: dict[str, Any] | None = None

    def first_with_pictures(self) -> dict[str, Any] | None:
        """The first row that has pictures."""
        if set(PICTURE_COLUMNS).isdisjoint(self.dataset.column_names):
            return None
        return next((row for row in self.dataset if pictures_of(row)), None)


def check_prompts(
    problems: ProblemSet,
    reader: PreTrainedTokenizerBase | ProcessorMixin,
    checkpoint: Checkpoint,
    engine: str,
    template_kwargs: dict[str, Any],
) -> None:
    """
    Args:
        problems ([`ProblemSet`]):
            The set.
        reader (`PreTrainedTokenizerBase` or `ProcessorMixin`):
            What the model reads prompts by.
        checkpoint ([`~trl_amft.evaluation.checkpoint.Checkpoint`]):
            The model.
        engine (`str`):
            `"transformers"`, or `"vllm"`, which knows by itself how long a prompt may be.
        template_kwargs (`dict[str, Any]`):
            Arguments of the chat template.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: if there are pictures and the model reads none, if a chat
            cannot be put through the chat template, or if a prompt in words leaves no room for an answer.
    """
    shown = problems.first_with_pictures()
    if shown is not None and not isinstance(reader, ProcessorMixin):
        raise EvaluationError(
            f"set {problems.name!r} has pictures, and model={checkpoint.name!r} reads text only; give a model that "
            "sees, with its processor"
        )
    row = problems.dataset[0] if shown is None else shown
    if not isinstance(row["prompt"], str):
        _check_template(problems.name, row, reader, checkpoint, template_kwargs)
    # How many tokens a picture takes is known when it has been read; the sampler looks at those prompts.
    if engine == "transformers" and shown is None:
        _check_lengths(problems, reader, positions_of(checkpoint.config), template_kwargs)


def _check_template(
    name: str,
    row: dict[str, Any],
    reader: PreTrainedTokenizerBase | ProcessorMixin,
    checkpoint: Checkpoint,
    template_kwargs: dict[str, Any],
) -> None:
    if not reader.chat_template:
        raise EvaluationError(
            f"model={checkpoint.name!r} has no chat template, and set {name!r} is a chat; give --chat_template"
        )
    try:
        tokenize_prompts(reader, [row["prompt"]], template_kwargs, [pictures_of(row)])
    # Templates and processors fail in ways without a common base class.
    except Exception as error:
        raise EvaluationError(
            f"the chat template for model={checkpoint.name!r} cannot be used for set {name!r} "
            f"({type(error).__name__}: {error}); give another one by --chat_template"
        ) from None


def _check_lengths(
    problems: ProblemSet,
    reader: PreTrainedTokenizerBase | ProcessorMixin,
    positions: int | None,
    template_kwargs: dict[str, Any],
) -> None:
    for start in range(0, len(problems.dataset) if positions is not None else 0, AT_ONCE):
        prompts = problems.dataset[start : start + AT_ONCE]["prompt"]
        rendered = render_prompts(reader, prompts, template_kwargs)
        ids: Any = text_tokenizer(reader)(rendered, add_special_tokens=isinstance(prompts[0], str))
        for number, tokens in enumerate(ids["input_ids"], start=start + 1):
            if reason := too_long(len(tokens), positions):
                raise unanswerable(problems.name, number, reason)
