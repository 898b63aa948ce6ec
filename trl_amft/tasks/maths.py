"""Maths problems whose last answer a grader reads, from any data set with a problem and an answer.

The default is `Elliott/Openr1-Math-46k-8192`: rows with `prompt` (system and user turn), `target` (the demonstration,
an assistant turn, or nothing) and `reward_model` with the ground truth. `maths_fields.py` has the other names that
columns may have. A demonstration that opens its thinking where the model's generation prompt has opened it already
loses that tag where it is rendered, see [`~trl_amft.demonstrations.tokenizer.DemonstrationTokenizer`].
"""

import random

from datasets import Dataset
from trl.import_utils import is_math_verify_available

from ..grading import maths_reward
from .maths_preparation import plain, problem_of
from .maths_rows import load_rows, to_form
from .maths_synthetic import MOST, synthetic_rows
from .task import Task


SYNTHETIC = "synthetic"
SYNTHETIC_PROBLEMS = 1000


def load_maths(
    dataset: str = "Elliott/Openr1-Math-46k-8192",
    split: str = "train",
    config: str | None = None,
    seed: int = 0,
    train_problems: int | None = None,
    held_out_problems: int = 500,
) -> Task:
    """
    Maths problems with demonstrations in a column, see the head of this file.

    Args:
        dataset (`str`, *optional*, defaults to `"Elliott/Openr1-Math-46k-8192"`):
            A name on the Hub, a JSON lines, JSON or Parquet file, a folder of `save_to_disk`, or `"synthetic"` for
            [`~trl_amft.tasks.maths_synthetic.synthetic_rows`].
        split (`str`, *optional*, defaults to `"train"`):
            Split of a dataset of the Hub or of a saved folder with several.
        config (`str`, *optional*):
            Configuration of a dataset of the Hub, such as `"main"` of `openai/gsm8k`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the split into training and held-out problems, and of synthetic ones. Not the seed of training.
        train_problems (`int`, *optional*):
            How many training problems to keep. All of them if not given; 1,000 synthetic ones.
        held_out_problems (`int`, *optional*, defaults to `500`):
            How many problems are held out; which ones does not depend on `train_problems`. Rows whose problems differ
            in no more than spaces, dollar signs and capitals are one problem.

    Returns:
        `Task`: columns `"prompt"` (conversational), `"demonstration"` (messages, or `None`) and `"solution"` (the
        ground truth in `\\boxed{}`). The reward is [`~trl_amft.grading.maths_reward`].
    """
    for field, value in (("train_problems", train_problems), ("held_out_problems", held_out_problems)):
        if value is not None and value < 1:
            raise ValueError(f"{field}={value} must be at least 1")
    if not is_math_verify_available():
        raise ValueError("the rewards need math-verify: run `pip install 'trl_amft[math]'`")
    if dataset == SYNTHETIC:
        # What is held out is drawn from as many problems whatever is trained on; further ones are for training.
        pool = min(SYNTHETIC_PROBLEMS + held_out_problems, MOST)
        rows = Dataset.from_list(synthetic_rows(max(pool, (train_problems or 0) + held_out_problems), seed))
    else:
        rows = load_rows(dataset, split, config, alternative=f", or {SYNTHETIC!r}")
        pool = len(rows)
    rows = to_form(dataset, rows, seed).remove_columns(["level", "subject"])

    # Rows are divided by problem, so that none is on both sides.
    problems: dict[str, list[int]] = {}
    for index, prompt in enumerate(rows["prompt"]):
        problems.setdefault(plain(problem_of(prompt)), []).append(index)
    wanted = held_out_problems + (train_problems or 1)
    if wanted > len(problems):
        raise ValueError(
            f"held_out_problems={held_out_problems} and train_problems={train_problems} ask for at least {wanted} "
            f"problems, dataset={dataset!r} has {len(problems)}; lower them"
        )
    drawn = [group for group in problems.values() if group[0] < pool]
    random.Random(f"maths {seed}").shuffle(drawn)
    groups = drawn + list(problems.values())[len(drawn) :]
    end = None if train_problems is None else held_out_problems + train_problems
    return Task(
        train_dataset=rows.select([index for group in groups[held_out_problems:end] for index in group]),
        held_out_dataset=rows.select([group[0] for group in groups[:held_out_problems]]).remove_columns(
            "demonstration"
        ),
        reward_funcs=[maths_reward],
        problem_of=lambda row: plain(problem_of(row["prompt"])),
    )
