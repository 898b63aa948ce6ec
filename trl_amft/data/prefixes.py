"""
MRT's prefixes of a solution (arXiv 2503.07572, github.com/CMU-AIRe/MRT): where a train of thought may be interrupted.

A solution is cut into episodes at paragraphs in which the model starts anew. After an episode it can be made to stop:
a sentence says that time is up, and the answers that follow are graded. Their mean reward is p_term.
"""

import math
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.trainer.utils import get_callable_name


OPENINGS = (
    "Wait",
    "But wait",
    "Alternatively",
    "Is there another way",
    "But let me double-check",
    "But hold on",
)
PARAGRAPHS_BETWEEN = 3
MOST_CUTS = 49
THINK, END_OF_THINK = "<think>", "</think>"
# Column with the prompt of the solution that a prefix is of.
PROBLEM_PROMPT = "problem_prompt"
TIME_IS_UP = "\n\nTime is up. I have to give my answer now.\n"


def split_episodes(text: str, group: int = 1) -> list[str]:
    """
    Cut a train of thought before paragraphs that open with one of `OPENINGS`, if at least `PARAGRAPHS_BETWEEN`
    paragraphs lie behind the last cut, at most `MOST_CUTS` times.

    Args:
        text (`str`):
            Train of thought, its paragraphs divided by empty lines.
        group (`int`, *optional*, defaults to `1`):
            How many episodes are taken together, ≥ 1.

    Returns:
        `list[str]`: episodes, which put together are the text.
    """
    starts = [0, *(match.end() for match in re.finditer(r"\n[ \t]*\n\s*", text))]
    cuts, behind = [0], 0
    for number, start in enumerate(starts):
        if number - behind >= PARAGRAPHS_BETWEEN and text.startswith(OPENINGS, start) and len(cuts) <= MOST_CUTS:
            cuts.append(start)
            behind = number
    cuts = cuts[::group]
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


@dataclass(frozen=True)
class Prefix:
    """
    A place where a solution is interrupted.

    Args:
        prompt (`str`):
            Rendered prompt with the episodes up to there.
        termination (`str`):
            What is said to make the model answer.
        rest (`str`):
            How the solution goes on.
        episode (`int`):
            Number of episodes in the prefix, ≥ 1.
        episodes (`int`):
            Number of episodes of the solution.
    """

    prompt: str
    termination: str
    rest: str
    episode: int
    episodes: int


def prefixes_of(prompt: str, solution: str, count: int, seed: int, group: int = 1) -> list[Prefix]:
    """
    Places where a solution can be interrupted.

    Args:
        prompt (`str`):
            Rendered prompt, which may open the thinking block.
        solution (`str`):
            What follows it. Only its thinking block is cut, if it has one.
        count (`int`):
            Take at most so many, drawn at random.
        seed (`int`):
            Of the draw.
        group (`int`, *optional*, defaults to `1`):
            Episodes that are taken together.

    Returns:
        `list[Prefix]`: in order; empty where the solution has one episode.
    """
    thought = solution.partition(END_OF_THINK)[0]
    episodes = split_episodes(thought, group)
    places = list(range(1, len(episodes)))
    places = sorted(random.Random(seed).sample(places, min(count, len(places))))
    found = []
    for place in places:
        done = "".join(episodes[:place])
        before = prompt[-20:] + done
        thinks = before.rfind(THINK) > before.rfind(END_OF_THINK)
        termination = f"{TIME_IS_UP}{END_OF_THINK}\n\n" if thinks else TIME_IS_UP
        found.append(Prefix(prompt + done, termination, solution[len(done) :], place, len(episodes)))
    return found


def mean_reward(
    row: dict[str, Any],
    texts: list[str],
    completion_ids: list[list[int]],
    rewards: list[Callable],
    weights: list[float],
) -> float | None:
    """
    Mean over completions of the weighted sum of their rewards, which is the reward that training compares with it.

    Args:
        row (`dict[str, Any]`):
            `prompt` and the columns that the rewards read.
        texts (`list[str]`):
            Completions. Rewards get them as messages where the prompt is a conversation.
        completion_ids (`list[list[int]]`):
            Their token ids.
        rewards (`list[Callable]`):
            Reward functions with TRL's signature, not asynchronous. `None` in their result is left out.
        weights (`list[float]`):
            One per reward function.

    Returns:
        `float`, *optional*: `None` where no reward applies to any of the completions.

    Raises:
        `ValueError`: in one line, if a reward fails, or returns another number of rewards or one that is not finite.
    """
    count, prompt = len(texts), row["prompt"]
    completions = texts if isinstance(prompt, str) else [[{"role": "assistant", "content": text}] for text in texts]
    given: dict[str, Any] = {
        name: [value] * count for name, value in row.items() if name not in ("prompt", "completion")
    }
    given |= {"prompts": [prompt] * count, "completions": completions, "completion_ids": completion_ids}
    given |= {"log_metric": _no_log, "log_extra": _no_log}
    totals: dict[int, float] = {}
    for reward, weight in zip(rewards, weights, strict=True):
        name = get_callable_name(reward)
        try:
            values = [None if value is None else float(value) for value in reward(**given)]
        # Rewards are anybody's code.
        except Exception as error:
            raise ValueError(
                f"the reward {name!r} failed ({type(error).__name__}: {error}); there are the columns "
                f"{', '.join(sorted(row))}"
            ) from error
        if len(values) != count:
            raise ValueError(
                f"the reward {name!r} returned {len(values)} rewards, not {count}; return one per completion"
            )
        for index, value in enumerate(values):
            if value is not None:
                totals[index] = totals.get(index, 0.0) + weight * value
                if not math.isfinite(totals[index]):
                    raise ValueError(
                        f"the reward {name!r} returned {value}; return a finite number, or None if it does not apply"
                    )
    return statistics.fmean(totals.values()) if totals else None


def _no_log(name: str, value: Any) -> None:
    """TRL hands its log to rewards; there is none here."""


def prefix_rows(
    prefix: Prefix, p_term: float, solution_reward: float | None, columns: dict[str, Any], modes: list[str]
) -> list[dict[str, Any]]:
    """
    Rows of a training set.

    Args:
        prefix ([`Prefix`]):
            Where the solution is interrupted.
        p_term (`float`):
            Mean reward of the answers there.
        solution_reward (`float`, *optional*):
            Reward of the whole solution.
        columns (`dict[str, Any]`):
            Further columns, such as those that the reward reads.
        modes (`list[str]`):
            `"continue"` goes on from the prefix, `"terminate"` from the sentence that time is up.

    Returns:
        `list[dict[str, Any]]`: one row per mode. A row to continue has the rest of the solution as `demonstration` if
        that makes progress, which is to say if the solution's reward is above `p_term`.
    """
    progresses = solution_reward is not None and solution_reward > p_term
    common = {"p_term": p_term, "solution_reward": solution_reward}
    common |= {"episode": prefix.episode, "episodes": prefix.episodes}
    rows = []
    for mode in modes:
        goes_on = mode == "continue"
        own = {
            "prompt": prefix.prompt if goes_on else prefix.prompt + prefix.termination,
            "demonstration": prefix.rest if goes_on and progresses else None,
            "mode": mode,
        }
        rows.append({**columns, **own, **common})
    return rows


def without_bos(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """
    A rendered prompt without the beginning-of-sequence token that the tokenizer will add to a prompt of plain text.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Of the model.
        text (`str`):
            Rendered by a chat template.

    Returns:
        `str`
    """
    bos = tokenizer.bos_token
    if not isinstance(bos, str) or not text.startswith(bos):
        return text
    doubled = tokenizer(text=text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    return text.removeprefix(bos) if doubled else text
