"""Held-out accuracy of a model that is being trained, with its standard error, and without leaving a trace in the run.

Several answers are sampled per problem. The standard error is taken over problems, because samples of one problem are
not independent draws from the task.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from ..demonstrations.pictures import pictures_of
from .generation import generate, text_tokenizer, tokenize_prompts, undisturbed
from .scoring import score


@dataclass(frozen=True)
class HeldOutResult:
    """
    Result of [`evaluate_held_out`].

    Args:
        accuracy (`float`):
            Mean over problems of the mean reward of a problem's samples. A share of correct answers if rewards are
            0 or 1.
        standard_error (`float`):
            Standard error of `accuracy` over problems; NaN with a single problem.
        num_problems (`int`):
            Number of problems.
        num_samples (`int`):
            Number of samples per problem.
        mean_completion_tokens (`float`):
            Mean length of a completion in tokens, end-of-sequence token included.
        truncated_share (`float`):
            Share of completions, between 0 and 1, that reached the token limit without an end-of-sequence token.
    """

    accuracy: float
    standard_error: float
    num_problems: int
    num_samples: int
    mean_completion_tokens: float
    truncated_share: float


def evaluate_held_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
    dataset: Dataset,
    reward_funcs: list[Callable],
    *,
    num_samples: int = 4,
    max_completion_length: int | None,
    temperature: float = 1.0,
    batch_size: int = 256,
    seed: int = 0,
    reward_weights: list[float] | None = None,
    eos_token_ids: list[int] | None = None,
    chat_template_kwargs: dict | None = None,
) -> HeldOutResult:
    """
    Sample answers to held-out prompts and score them with the training's reward functions.

    Args:
        model (`PreTrainedModel`):
            Model to evaluate. Its training flags, its gradients and the global random state are left as they were.
        tokenizer (`PreTrainedTokenizerBase`):
            Tokenizer with a pad and an end-of-sequence token, or the processor of a model that sees.
        dataset (`Dataset`):
            Column `"prompt"` (a string, or a list of messages), plus the columns that the reward functions read; the
            column `"image"` or `"images"` where prompts have pictures.
        reward_funcs (`list[Callable]`):
            Reward functions with TRL's signature; asynchronous ones are waited for, and `trainer_state` is `None`.
            `None` in their result means "not applicable" and counts as 0.
        num_samples (`int`, *optional*, defaults to `4`):
            Samples per problem.
        max_completion_length (`int`, *optional*):
            Longest completion in tokens; `None` leaves it to the model's generation settings.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature, greater than 0.
        batch_size (`int`, *optional*, defaults to `256`):
            Completions generated at once.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling. Same model, data and arguments: same result.
        reward_weights (`list[float]`, *optional*):
            One weight per reward function. Plain sum if not given.
        eos_token_ids (`list[int]`, *optional*):
            Token ids that end a completion. The tokenizer's own if not given.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template, the same as in training.

    Returns:
        `HeldOutResult`
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: held-out accuracy needs at least one problem")
    weights = [1.0] * len(reward_funcs) if reward_weights is None else reward_weights
    if len(weights) != len(reward_funcs):
        raise ValueError(
            f"reward_weights={weights} does not match the {len(reward_funcs)} reward functions; give one weight each"
        )

    eos: Any = text_tokenizer(tokenizer).eos_token_id
    eos_token_ids = eos_token_ids or [eos]
    rows = [row for row in dataset for _ in range(num_samples)]
    rewards, lengths, truncated = [], [], 0
    with undisturbed(model, seed):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            asked, pictures = [row["prompt"] for row in batch], [pictures_of(row) for row in batch]
            prompts = tokenize_prompts(tokenizer, asked, chat_template_kwargs or {}, pictures)
            completion_ids = generate(model, prompts, max_completion_length, temperature, eos_token_ids)
            ended = [not set(eos_token_ids).isdisjoint(ids) for ids in completion_ids]
            lengths += [len(ids) for ids in completion_ids]
            truncated += ended.count(False)
            texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
            rewards += score(batch, texts, completion_ids, reward_funcs, weights)

    per_problem = torch.tensor(rewards, dtype=torch.float64).view(len(dataset), num_samples).mean(dim=1)
    return HeldOutResult(
        accuracy=per_problem.mean().item(),
        standard_error=per_problem.std().item() / math.sqrt(len(dataset)) if len(dataset) > 1 else math.nan,
        num_problems=len(dataset),
        num_samples=num_samples,
        mean_completion_tokens=sum(lengths) / len(lengths),
        truncated_share=truncated / len(rows),
    )
