"""
One run with demonstrations and a baseline from a column, under DeepSpeed if it gets a stage; writes what every row
was given. With `broken_row` the data are streamed in order, and that row of them has no number.

Usage: baseline_worker.py RESULT_FILE JSON_OVERRIDES
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import import_utils


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
# Importing vLLM takes longer than the run.
import_utils.is_vllm_available = lambda *args, **kwargs: False

import toy  # noqa: E402
from sharded import deepspeed_config  # noqa: E402
from trl_amft import AMFTTrainer  # noqa: E402
from trl_amft.cli.leave import leave  # noqa: E402


def recorded_rollouts(prompts, trainer):
    """Completions of one to four tokens in every group."""
    ids = [[20 + index % 4] * (1 + index % 4) for index in range(len(prompts))]
    tokens = trainer.processing_class(prompts)["input_ids"]
    return {"prompt_ids": tokens, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}


def length_reward(completion_ids, **columns):
    return [len(ids) / 8 for ids in completion_ids]


class Watched(AMFTTrainer):
    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(dim=1).tolist()
        values = output["advantages"].tolist(), output["group_varies"].tolist()
        seen.extend(zip((row["p_term"] for row in inputs), lengths, *values, strict=True))
        return output


seen: list = []


def main() -> None:
    result_file, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
    world, stage = int(os.environ["WORLD_SIZE"]), overrides.get("zero_stage")
    rows = [{"prompt": prompt, "p_term": [0.25, None, 0.75][n % 3]} for n, prompt in enumerate(toy.prompts())]
    broken = overrides.get("broken_row")
    if broken is not None:
        rows[broken]["p_term"] = float("nan")
    dataset = Dataset.from_list(rows)
    model, tokenizer = toy.model()
    args = toy.config(
        result_file.parent / "run",
        per_device_train_batch_size=16 // world,
        per_device_demonstration_batch_size=4 // world,
        max_steps=3,
        meta_window=1,
        meta_normalization="cosine",
        mu_lr=5.0,
        scale_rewards="none",
        advantage_baseline="column:p_term",
        ddp_backend="gloo",
        shuffle_dataset=broken is None,
        deepspeed=None if stage is None else deepspeed_config(stage),
    )
    trainer = Watched(
        model=model,
        reward_funcs=length_reward,
        args=args,
        train_dataset=dataset if broken is None else dataset.to_iterable_dataset(),
        processing_class=tokenizer,
        rollout_func=recorded_rollouts,
        demonstration_dataset=toy.demonstration_set(),
    )
    trainer.train()
    everything = gather_object(seen)
    if trainer.is_world_process_zero():
        logs = [log for log in trainer.state.log_history if "amft/mu" in log]
        names = ("baseline/progress", "baseline/regret", "amft/mu")
        logged = {name: [log[name] for log in logs] for name in names}
        torch.save({"rows": everything, **logged}, result_file)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
    leave(0)
