"""The rewards of a recipe on a sample: whether they run, and how they like the demonstrations."""

import math
import statistics
from collections.abc import Callable
from itertools import filterfalse
from types import SimpleNamespace
from typing import Any

import torch
from trl.data_utils import is_conversational
from trl.trainer.utils import is_async_callable

from ..amft_config import AMFTConfig
from ..cli.data import RunData
from ..demonstrations.tokenizer import to_prompt_completion
from ..mixing.gates import reaches
from ..rollouts.signals import total_rewards
from .data import first_rows
from .findings import NOTE, OK, Finding, problem


CALLED = 4


def check_rewards(args: AMFTConfig, data: RunData, rows: list[dict[str, Any]], column: str | None) -> list[Finding]:
    """
    Score demonstrations as if the policy had written them. Asynchronous rewards are left out.

    Args:
        args ([`AMFTConfig`]):
            Gives weights and filter.
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
    found, scores = [], []
    for reward in filterfalse(is_async_callable, data.reward_funcs):
        name = getattr(reward, "__name__", str(reward))
        values, failure = _scored(reward, given | columns, len(rows))
        if failure is not None:
            text = f"reward {name} cannot score demonstrations ({failure})"
            remedy = "give them the columns that it reads, or check the function"
            if args.demonstration_min_reward is None:
                found.append(Finding(NOTE, f"{text}; {remedy}"))
            else:
                filtered = f"demonstration_min_reward={args.demonstration_min_reward} filters by it"
                found.append(problem(f"{text}, but {filtered}: {remedy}"))
            continue
        scores.append(values)
        known = [value for value in values if value is not None]
        mean = statistics.fmean(known) if known else 0.0
        text = f"reward {name}: mean {mean:.3g} on {len(known)} demonstrations"
        if known and max(known) <= 0.0 and reward in data.accuracy_funcs:
            found.append(problem(f"{text}, none positive: check that it reads the format of demonstrations"))
        else:
            found.append(Finding(OK, text))
    if args.demonstration_min_reward is not None and len(scores) == len(data.reward_funcs):
        found.append(_filtered(args.demonstration_min_reward, args.reward_weights, scores))
    return found


def _filtered(threshold: float, weights: list[float] | None, scores: list[list[float | None]]) -> Finding:
    rewards = torch.tensor([[math.nan if value is None else float(value) for value in values] for values in scores])
    totals = total_rewards(rewards.T, torch.tensor(weights or [1.0] * len(scores)))
    count, totals = len(totals), totals[~totals.isnan()]
    kept = int(reaches(totals, threshold).sum())
    text = f"demonstration_min_reward={threshold}: {kept} of {count} sampled demonstrations reach it"
    if kept:
        return Finding(OK, text)
    best = f", their best reward is {totals.max().item():.3g}" if len(totals) else ", none has a reward"
    return problem(f"{text}{best}: lower it, or check that the rewards read the format of demonstrations")


def check_reward_calls(data: RunData) -> list[Finding]:
    """Call every reward on the first training rows with a completion that says nothing."""
    rows = first_rows(data.train_dataset, CALLED)
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
