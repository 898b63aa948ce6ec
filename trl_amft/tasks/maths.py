"""Maths problems whose last value a verifier reads: rows of the schema of `Elliott/Openr1-Math-46k-8192`.

A row has `prompt` (system and user turn), `target` (the demonstration, an assistant turn, or nothing) and
`reward_model` with the ground truth. A demonstration that opens its thinking where the generation prompt of the model
has opened it already loses that tag where it is rendered, see [`~trl_amft.demonstrations.DemonstrationTokenizer`].
"""

import json
import random
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, load_dataset, load_from_disk
from trl.import_utils import is_math_verify_available
from trl.rewards import accuracy_reward

from .maths_synthetic import synthetic_rows
from .task import Task


SYNTHETIC = "synthetic"
COLUMNS = ("prompt", "target", "reward_model")
MESSAGES = [{"role": Value("string"), "content": Value("string")}]
FEATURES = Features({"prompt": MESSAGES, "demonstration": MESSAGES, "solution": Value("string")})

# Builders of `datasets` by the ending of a file, and what `save_to_disk` writes beside the rows.
FILE_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SAVED_FILES = ("dataset_dict.json", "state.json")


def load_maths(
    dataset: str = "Elliott/Openr1-Math-46k-8192",
    split: str = "train",
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
        seed (`int`, *optional*, defaults to `0`):
            Seed of the split into training and held-out problems, and of synthetic ones. Not the seed of training.
        train_problems (`int`, *optional*):
            How many training problems to keep. All of them if not given; 1,000 synthetic ones.
        held_out_problems (`int`, *optional*, defaults to `500`):
            How many problems are held out. Rows with the same prompt are one problem.

    Returns:
        `Task`: columns `"prompt"` (conversational), `"demonstration"` (the target's messages, or `None`) and
        `"solution"` (the ground truth, in `\\boxed{}` so that TRL's `accuracy_reward` can read it).
    """
    for field, value in (("train_problems", train_problems), ("held_out_problems", held_out_problems)):
        if value is not None and value < 1:
            raise ValueError(f"{field}={value} must be at least 1")
    if not is_math_verify_available():
        raise ValueError("the rewards need math-verify: run `pip install 'trl_amft[math]'`")
    if dataset == SYNTHETIC:
        rows = Dataset.from_list(synthetic_rows((train_problems or 1000) + held_out_problems, seed))
    else:
        rows = _load(dataset, split)
    _check_schema(dataset, rows)
    rows = rows.map(to_columns, remove_columns=rows.column_names, features=FEATURES)
    rows = rows.filter(bool, input_columns="solution")

    # Rows are divided by problem, so that none is on both sides.
    problems: dict[str, list[int]] = {}
    for index, prompt in enumerate(rows["prompt"]):
        problems.setdefault(json.dumps(prompt), []).append(index)
    wanted = held_out_problems + (train_problems or 1)
    if wanted > len(problems):
        raise ValueError(
            f"held_out_problems={held_out_problems} and train_problems={train_problems} ask for at least {wanted} "
            f"problems, dataset={dataset!r} has {len(problems)}; lower them"
        )
    groups = list(problems.values())
    random.Random(f"maths {seed}").shuffle(groups)
    end = None if train_problems is None else held_out_problems + train_problems
    return Task(
        train_dataset=rows.select([index for group in groups[held_out_problems:end] for index in group]),
        held_out_dataset=rows.select([group[0] for group in groups[:held_out_problems]]).remove_columns(
            "demonstration"
        ),
        reward_funcs=[accuracy_reward],
    )


def to_columns(row: dict[str, Any]) -> dict[str, Any]:
    """
    Bring a row to the columns that the trainer and the reward read.

    Args:
        row (`dict[str, Any]`):
            A row of the schema.

    Returns:
        `dict[str, Any]`: `prompt`, `demonstration` and `solution`; `solution` is empty without a ground truth.
    """
    truth = row["reward_model"]["ground_truth"]
    truth = "" if truth is None else str(truth)
    # A bare formula is no LaTeX to the verifier, and a bare word is nothing to it: both need a frame.
    if truth and "\\boxed" not in truth:
        truth = f"\\boxed{{{truth}}}"
    return {"prompt": row["prompt"], "demonstration": row["target"] or None, "solution": truth}


def _load(name: str, split: str) -> Dataset:
    path = Path(name)
    try:
        if path.suffix in FILE_BUILDERS:
            return load_dataset(FILE_BUILDERS[path.suffix], data_files=str(path), split="train")
        if any((path / file).is_file() for file in SAVED_FILES):
            saved = load_from_disk(name)
            return saved[split] if isinstance(saved, DatasetDict) else saved
        return load_dataset(name, split=split)
    # Network, Hub, builder and schema errors have no common base class.
    except Exception as error:
        raise ValueError(
            f"dataset={name!r} with split={split!r} cannot be loaded ({type(error).__name__}: {error}); give a name "
            f"on the Hub, a JSON lines or Parquet file, a saved folder, or {SYNTHETIC!r}"
        ) from None


def _check_schema(name: str, rows: Dataset) -> None:
    missing = [column for column in COLUMNS if column not in rows.column_names]
    if not missing and len(rows):
        row = rows[0]
        if not isinstance(row["reward_model"], dict) or "ground_truth" not in row["reward_model"]:
            missing.append("reward_model.ground_truth")
        if not isinstance(row["prompt"], list):
            missing.append("prompt as a list of messages")
    if missing:
        raise ValueError(
            f"dataset={name!r} has the columns {', '.join(rows.column_names)}; expected {', '.join(COLUMNS)}, "
            f"missing: {', '.join(missing)}"
        )
