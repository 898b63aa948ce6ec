"""
A GRPO script of ten lines, with demonstrations: two names of it have changed. Every other row has a demonstration.

    python examples/existing_grpo_script.py Qwen/Qwen2.5-0.5B-Instruct

TRL trains in bf16 unless told otherwise: without a GPU, give `AMFTConfig` also `bf16=False`.
"""

import sys

from datasets import load_dataset

from trl_amft import AMFTConfig, AMFTTrainer  # from trl import GRPOConfig, GRPOTrainer


def right(completions, answer, **kwargs):
    return [float(text.strip() == truth) for text, truth in zip(completions, answer, strict=True)]


rows = load_dataset("json", data_files="examples/data/sums.jsonl", split="train")
args = AMFTConfig("outputs/sums", max_completion_length=8, max_steps=50, logging_steps=1)
trainer = AMFTTrainer(model=sys.argv[1], reward_funcs=right, args=args, train_dataset=rows)
trainer.train()
