"""
A run on three domains whose groups do not end where processes do; writes what every row was given, in order.

Usage: domains_worker.py RESULT_FILE JSON_OVERRIDES
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from trl import import_utils


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
# Importing vLLM takes longer than the run.
import_utils.is_vllm_available = lambda *args, **kwargs: False

import toy  # noqa: E402
from trl_amft import AMFTTrainer  # noqa: E402
from trl_amft.cli.leave import leave  # noqa: E402
from trl_amft.data.domains import DomainReward, mix_domains  # noqa: E402
from trl_amft.rewards import ExplorationReward  # noqa: E402


GLOBAL_BATCH, GENERATIONS, STEPS = 12, 4, 4


def recorded_rollouts(prompts, trainer):
    """Completions of one to four tokens in every group, by the position in the whole batch."""
    first = PartialState().process_index * len(prompts)
    ids = [[20] * (1 + index % GENERATIONS) for index in range(first, first + len(prompts))]
    tokens = trainer.processing_class(prompts)["input_ids"]
    return {"prompt_ids": tokens, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}


def odd_length(completion_ids, **columns):
    return [float(len(ids) % 2) for ids in completion_ids]


def never(completion_ids, **columns):
    return [0.0] * len(completion_ids)


def length(completion_ids, **columns):
    return [len(ids) / 8 for ids in completion_ids]


class Watched(AMFTTrainer):
    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        lengths, advantages = output["completion_mask"].sum(dim=1).tolist(), output["advantages"].tolist()
        own = zip(
            (row["prompt"] for row in inputs), (row["domain"] for row in inputs), lengths, advantages, strict=True
        )
        steps.append(gather_object([list(row) for row in own]))
        return output


steps: list = []


def main() -> None:
    result_file, world = Path(sys.argv[1]), int(os.environ.get("WORLD_SIZE", "1"))
    rows = [
        {"prompt": prompt, "domain": name} for name in ("letters", "digits", "words") for prompt in toy.prompts(32)
    ]
    model, tokenizer = toy.model(hidden_size=16, layers=1)
    trainer = Watched(
        model=model,
        reward_funcs=[
            ExplorationReward(DomainReward("letters", odd_length), full_length=8),
            ExplorationReward(DomainReward("digits", never), full_length=8),
            DomainReward("words", length),
        ],
        args=toy.config(
            result_file.parent / "run",
            per_device_train_batch_size=GLOBAL_BATCH // world,
            num_generations=GENERATIONS,
            max_steps=STEPS,
            mixing_policy="fixed",
            mu_init=0.0,
            scale_rewards="none",
            ddp_backend="gloo" if world > 1 else None,
        ),
        train_dataset=mix_domains(Dataset.from_list(rows), {"letters": 2, "digits": 1, "words": 1}, seed=0),
        processing_class=tokenizer,
        rollout_func=recorded_rollouts,
    )
    trainer.train()
    if trainer.is_world_process_zero():
        shares = [
            {name: value for name, value in log.items() if name.startswith(("domains/", "exploration/"))}
            for log in trainer.state.log_history
            if "reward" in log
        ]
        torch.save({"steps": steps, "logged": shares}, result_file)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
    leave(0)
