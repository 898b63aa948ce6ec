"""
One training run with rollouts from a colocated vLLM engine, in one or several processes; writes how far the engine's
log-probabilities were from the trainer's at every rollout.

Usage: worker.py RESULT_FILE JSON_OVERRIDES
"""

import json
import os
import sys
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from cpu_engine import prepare_cpu_engine  # noqa: E402


prepare_cpu_engine()

import toy  # noqa: E402
from sharded import deepspeed_config, whole_parameters  # noqa: E402
from trl_amft import AMFTTrainer  # noqa: E402
from trl_amft.cli.leave import leave  # noqa: E402


def main() -> None:
    result_file, overrides = sys.argv[1], json.loads(sys.argv[2])
    world = int(os.environ.get("WORLD_SIZE", "1"))
    lora, checkpoint = overrides.pop("lora", False), overrides.pop("resume", None)
    folder = Path(result_file).parent
    stage = overrides.pop("zero_stage", 0)
    if stage:
        import deepspeed

        # Loading a model in parts needs to know the other processes. On a GPU the trainer's arguments see to it.
        deepspeed.init_distributed(dist_backend="gloo")
        overrides["deepspeed"] = deepspeed_config(stage)
    peft_config = None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    args = toy.config(
        folder / f"run-{world}",
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=32,
        per_device_train_batch_size=8 // world,
        sft_warmup_steps=1,
        max_steps=4,
        meta_window=1,
        meta_normalization="cosine",
        mu_lr=1.0,
        ddp_backend="gloo" if world > 1 else None,
        **overrides,
    )
    trainer = AMFTTrainer(
        model=str(folder / "model"),
        reward_funcs=toy.dense_reward,
        args=args,
        train_dataset=toy.prompt_set(),
        peft_config=peft_config,
        demonstration_dataset=toy.demonstration_set(),
        validation_dataset=toy.prompt_set(8),
    )
    rollouts, sources = [], []

    class Watch(type(trainer)):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            kind = "validation" if self.scale_rewards == "none" else "training"
            difference = self._metrics["train"]["sampling/sampling_logp_difference/mean"][-1]
            rollouts.append((self.state.global_step, kind, difference))
            sources.extend(len(row.get("completion", "")) for row in inputs)
            return output

    trainer.__class__ = Watch
    start = whole_parameters(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    end = whole_parameters(trainer)
    if trainer.is_world_process_zero():
        logs = [log for log in trainer.state.log_history if "loss" in log]
        torch.save(
            {
                "rollouts": rollouts,
                "weights": [log["amft/mu"] for log in logs],
                "logs": logs,
                "start": start,
                "end": end,
            },
            result_file,
        )
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
    leave(0)
