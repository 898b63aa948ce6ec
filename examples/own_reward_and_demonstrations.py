"""
A reward of one's own, and demonstrations of one's own in a JSON lines file of their own. Chat format.

    python examples/own_reward_and_demonstrations.py Qwen/Qwen2.5-0.5B-Instruct
    python scripts/report.py outputs/products

`problems.jsonl` has `prompt` and whatever the reward reads; `demonstrations.jsonl` has `prompt` and `completion`. The
prompts of the two need not be the same ones. Without a GPU, give `AMFTConfig` also `bf16=False`.
"""

import re
import sys

from datasets import load_dataset

from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.reporting.watch import watch


def right_product(completions, product, **kwargs):
    """1 for the right number at the end, 0 for another one; every column of the problems arrives as an argument."""
    answers = [re.search(r"The answer is (\d+)\.\s*$", messages[-1]["content"] or "") for messages in completions]
    return [float(found is not None and int(found[1]) == truth) for found, truth in zip(answers, product, strict=True)]


files = {"problems": "examples/data/problems.jsonl", "demonstrations": "examples/data/demonstrations.jsonl"}
data = load_dataset("json", data_files={"problems": files["problems"]})["problems"]
demonstrations = load_dataset("json", data_files={"demonstrations": files["demonstrations"]})["demonstrations"]
# Held-out problems must have no demonstration; the start-up check would say so.
shown = [str(prompt) for prompt in demonstrations["prompt"]]
held_out = data.filter(lambda row: str(row["prompt"]) not in shown).select(range(8))
seen = [str(prompt) for prompt in held_out["prompt"]]
train = data.filter(lambda row: str(row["prompt"]) not in seen)

args = AMFTConfig(
    output_dir="outputs/products",
    max_completion_length=64,
    max_demonstration_length=128,
    sft_warmup_steps=10,  # imitation first, where no rollout would be right
    mu_init=0.3,  # then a weight that is learned from here
    max_steps=60,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=20,
)
trainer = AMFTTrainer(
    model=sys.argv[1],
    reward_funcs=right_product,
    args=args,
    train_dataset=train,
    eval_dataset=held_out,
    demonstration_dataset=demonstrations,
)
watch(trainer)  # progress display, and the files that scripts/report.py reads
trainer.train()
trainer.save_model()
