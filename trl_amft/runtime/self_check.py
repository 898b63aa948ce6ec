"""
What the trainer tells once before it starts: how a demonstration looks to the model, what was dropped, and every
problem in one line with its remedy.
"""

import json
import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from ..amft_config import AMFTConfig
from ..compat import installed_versions
from ..demonstrations.source import MapDemonstrations, no_demonstration_left
from ..demonstrations.tokenizer import COMPLETION_IDS, PICTURES, PROMPT_IDS, STATUS
from ..mixing.gates import reaches
from ..rollouts.signals import total_rewards


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


SAMPLE_SIZE = 64
SCORING_BATCH = 256


def score_demonstrations(trainer: "AMFTTrainer", rows: list[dict[str, Any]]) -> list[float]:
    """
    Weighted reward of demonstrations as if the policy had written them.

    Args:
        trainer ([`AMFTTrainer`]):
            Its reward functions are used.
        rows (`list[dict[str, Any]]`):
            Tokenized demonstrations, the same list on every process.

    Returns:
        `list[float]`: one reward per row; NaN where no function applies.
    """
    rewards: list[float] = []
    weights, trackers = trainer.reward_weights, trainer.args.report_to
    # TRL tells them how long a reward takes, which they refuse before training has begun.
    trainer.args.report_to = []
    try:
        for start in range(0, len(rows), SCORING_BATCH):
            batch = rows[start : start + SCORING_BATCH]
            prompts = [row["prompt"] for row in batch]
            completions = [row["completion"] for row in batch]
            ids = [row[COMPLETION_IDS] for row in batch]
            per_function = trainer._calculate_rewards(batch, prompts, completions, ids)[: len(batch)].cpu()
            rewards += total_rewards(per_function, weights).tolist()
    finally:
        trainer.args.report_to = trackers
    trainer._pending_extra_logs.clear()
    trainer._pending_metrics.clear()
    return rewards


def filter_by_reward(trainer: "AMFTTrainer") -> None:
    """
    Apply `demonstration_min_reward`: what a verifier can filter is filtered, once.

    Raises:
        `ValueError`: if the demonstrations cannot be scored, or none is left.
    """
    threshold, demonstrations = trainer.args.demonstration_min_reward, trainer.demonstrations
    assert threshold is not None, "the trainer has looked"
    assert isinstance(demonstrations, MapDemonstrations), "check_arguments says so"
    try:
        rewards = score_demonstrations(trainer, demonstrations.sample(len(demonstrations)))
    except Exception as error:
        raise ValueError(
            f"demonstration_min_reward={threshold}: the demonstrations cannot be scored ({cause_of(error)}): give "
            "them the columns that the rewards read, or leave it unset"
        ) from error
    kept = reaches(torch.tensor(rewards), threshold).nonzero().flatten().tolist()
    demonstrations.keep(kept, "low_reward")
    if len(demonstrations) == 0:
        raise ValueError(no_demonstration_left(demonstrations.counts, trainer.args.max_demonstration_length))


def run_self_check(trainer: "AMFTTrainer") -> list[str]:
    """
    Print the report on the main process.

    Returns:
        `list[str]`: the problems found, one line each.
    """
    demonstrations = trainer.demonstrations
    assert demonstrations is not None, "the trainer has looked"
    rows = demonstrations.sample(SAMPLE_SIZE)
    problems = [*token_problems(trainer._tokenizer, trainer.args, rows), *_overlap_problems(trainer)]
    if trainer.args.beta and trainer.args.sft_warmup_steps:
        problems.append(
            f"beta={trainer.args.beta} pulls the model back to what it was before the warm-up of sft_warmup_steps="
            f"{trainer.args.sft_warmup_steps}: set beta=0, or warm up in a run of its own and start from its model"
        )
    lines = ["AMFT start-up check", f"  versions: {_versions()}", *_batch_lines(trainer)]
    lines += _set_lines(trainer, demonstrations.counts, rows)
    rewards, failure = _rewards(trainer, rows)
    if failure:
        lines.append(
            f"  rewards of demonstrations: not scored ({failure}); with the columns that rewards read they would be"
        )
    elif rewards:
        lines.append(f"  rewards of {len(rewards)} demonstrations: mean {statistics.fmean(rewards):.3g}")
        if max(rewards) <= 0.0:
            problems.append(
                "no demonstration of the sample has a positive reward: check that the reward reads the format of "
                "demonstrations"
            )
    if rows:
        lines += _example_lines(trainer, rows[0])
    lines += [f"  PROBLEM: {problem}" for problem in problems]
    if trainer.accelerator.is_main_process:
        print("\n".join(lines), flush=True)
    return problems


def _versions() -> str:
    return ", ".join(f"{package} {version}" for package, version in installed_versions().items())


def _batch_lines(trainer: "AMFTTrainer") -> list[str]:
    args = trainer.args
    micro_batches = args.gradient_accumulation_steps * args.world_size
    rollouts = args.per_device_train_batch_size * micro_batches
    lines = [
        f"  per step: {rollouts} rollouts of {rollouts / args.num_generations:g} prompts, "
        f"{args.per_device_demonstration_batch_size * micro_batches} demonstrations"
    ]
    if not args.policy_class.needs_meta_gradient or args.meta_gradient != "lagged":
        return lines
    reasons = [] if trainer.scale_rewards == "none" else [f"scale_rewards={trainer.scale_rewards!r}"]
    reasons += [f"beta={args.beta}"] if args.beta else []
    if reasons:
        lines.append(f"  the RL gradient stands in for the utility's; exact only without {', '.join(reasons)}")
    if args.generation_steps > args.gradient_accumulation_steps:
        lines.append("  rollouts serve several steps; only the first of them judges mu")
    return lines


def _set_lines(trainer: "AMFTTrainer", found: Counter, rows: list[dict[str, Any]]) -> list[str]:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found.items()))
    lines = [f"  demonstrations: {counts or 'streamed'}"]
    if rows:
        completions = [len(row[COMPLETION_IDS]) for row in rows]
        lines.append(
            f"  completion tokens of {len(rows)}: median {statistics.median(completions):g}, max {max(completions)}, "
            f"limit {trainer.args.max_demonstration_length}"
        )
    return lines


def _example_lines(trainer: "AMFTTrainer", row: dict[str, Any]) -> list[str]:
    decode = trainer._tokenizer.decode
    prompt, completion = decode(row[PROMPT_IDS]), decode(row[COMPLETION_IDS])
    return [
        f"  example, without loss: {_shorten(prompt, keep_end=True)!r}",
        f"  example, with loss:    {_shorten(completion)!r}",
    ]


def _shorten(text: str, keep_end: bool = False, limit: int = 300) -> str:
    if len(text) <= limit:
        return text
    return f"…{text[-limit:]}" if keep_end else f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def token_problems(tokenizer: PreTrainedTokenizerBase, args: AMFTConfig, rows: list[dict[str, Any]]) -> list[str]:
    """
    What is wrong with demonstrations as the model sees them.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The policy's.
        args ([`AMFTConfig`]):
            Configuration.
        rows (`list[dict[str, Any]]`):
            Tokenized demonstrations.

    Returns:
        `list[str]`: one line each, with its remedy.
    """
    problems: list[str] = []
    bos = tokenizer.bos_token_id
    if bos is not None and any(row[PROMPT_IDS][:2] == [bos, bos] for row in rows):
        problems.append("prompts start with two BOS tokens: remove the BOS text from the prompt column")
    for row in rows:
        asked, answered = tokenizer.batch_decode([row[PROMPT_IDS], row[COMPLETION_IDS]])
        if asked.rstrip().endswith("<think>") and answered.lstrip().startswith("<think>"):
            problems.append("<think> is doubled: the generation prompt ends with it, so strip it from demonstrations")
            break
    unfinished = sum(row[STATUS] == "truncated" for row in rows)
    if unfinished:
        problems.append(
            f"{unfinished} of {len(rows)} demonstrations are cut and have no EOS: raise max_demonstration_length="
            f"{args.max_demonstration_length} or use demonstration_truncation='drop'"
        )
    return problems


def _overlap_problems(trainer: "AMFTTrainer") -> list[str]:
    """Prompts of demonstrations among held-out prompts make every held-out number worthless."""
    if not isinstance(trainer.demonstrations, MapDemonstrations):
        return []
    if any(row[PICTURES] for row in trainer.demonstrations.sample(1)):
        # Prompts that differ in their pictures only may be the same in words.
        return []
    # As JSON, because messages of two sets may hold their keys in different orders.
    shown = {json.dumps(prompt, sort_keys=True) for prompt in trainer.demonstrations.rows["prompt"]}
    problems = []
    datasets = {"validation_dataset": trainer.validation_dataset}
    evaluation = (
        trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"eval_dataset": trainer.eval_dataset}
    )
    for name, dataset in {**datasets, **evaluation}.items():
        if dataset is None or not hasattr(dataset, "select") or "prompt" not in dataset.column_names:
            continue
        overlap = sum(json.dumps(prompt, sort_keys=True) in shown for prompt in dataset["prompt"])
        if overlap:
            problems.append(
                f"{overlap} of {len(dataset)} prompts of {name} also have a demonstration: remove them there"
            )
    return problems


def cause_of(error: Exception) -> str:
    """One line on what failed in a reward function."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _rewards(trainer: "AMFTTrainer", rows: list[dict[str, Any]]) -> tuple[list[float], str | None]:
    if trainer.environment_factories is not None:
        return [], "they come from an environment"
    if not rows:
        return [], None
    generator_state = torch.get_rng_state()
    try:
        rewards = score_demonstrations(trainer, rows)
    except Exception as error:  # A demonstration set may lack the columns that a reward needs.
        return [], cause_of(error)
    finally:
        torch.set_rng_state(generator_state)
    return [reward for reward in rewards if not math.isnan(reward)], None
