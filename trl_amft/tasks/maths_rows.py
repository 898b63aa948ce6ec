"""Rows from a name on the Hub, a file or a saved folder, brought to one form; other columns are refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, load_dataset, load_from_disk

from .maths_choices import EXPECTED, OPTIONS, TEXTS, choices_reader
from .maths_fields import ANSWER, PROBLEM, SOLUTION, maths_reader


MESSAGES = [{"role": Value("string"), "content": Value("string")}]
FEATURES = Features(
    {
        "prompt": MESSAGES,
        "demonstration": MESSAGES,
        "solution": Value("string"),
        "level": Value("string"),
        "subject": Value("string"),
    }
)

# Builders of `datasets` by the ending of a file, and what `save_to_disk` writes beside the rows.
FILE_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SAVED_FILES = ("dataset_dict.json", "state.json")


def load_rows(name: str, split: str, config: str | None = None, alternative: str = "") -> Dataset:
    """
    Load a data set as it is.

    Args:
        name (`str`):
            A name on the Hub, a JSON lines, JSON or Parquet file, or a folder of `save_to_disk`.
        split (`str`):
            Split of a data set of the Hub or of a saved folder with several. A file has none.
        config (`str`, *optional*):
            Configuration of a data set of the Hub.
        alternative (`str`, *optional*):
            What else could be given, for the message of the error.

    Returns:
        `Dataset`

    Raises:
        `ValueError`: in one line, if it cannot be loaded.
    """
    path = Path(name)
    try:
        if path.suffix in FILE_BUILDERS:
            return load_dataset(FILE_BUILDERS[path.suffix], data_files=str(path), split="train")
        if any((path / file).is_file() for file in SAVED_FILES):
            saved = load_from_disk(name)
            return saved[split] if isinstance(saved, DatasetDict) else saved
        return load_dataset(name, config, split=split)
    # Network, Hub, builder and schema errors have no common base class.
    except Exception as error:
        raise ValueError(
            f"dataset={name!r} with split={split!r} cannot be loaded ({type(error).__name__}: {error}); give a name "
            f"on the Hub, a JSON lines or Parquet file, a saved folder{alternative}"
        ) from None


def reader_of(name: str, rows: Dataset, seed: int = 0) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """
    How the rows of a data set are read.

    Args:
        name (`str`):
            Of the data set, for the message of the error.
        rows (`Dataset`):
            Its rows.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of options, see [`~trl_amft.tasks.maths_choices.choices_reader`].

    Returns:
        `Callable`: from a row to the columns of `FEATURES`. It raises a `ValueError` of one line for a value of
        another form; a row in which something is missing has no solution.

    Raises:
        `ValueError`: in one line with the columns that were found and those that were expected.
    """
    columns = rows.column_names
    by_choice = choices_reader(columns, seed)
    reader = by_choice or maths_reader(columns)
    missing = ""
    options = next((column for column in OPTIONS if column in columns), None)
    text = next((column for column in TEXTS if column in columns), None)
    if options is not None and (by_choice is None or text is not None):
        missing = f"a form with the column {text if by_choice else options!r} that is read here"
    if "reward_model" in columns:
        truths = (row["reward_model"] for row in rows.select_columns("reward_model"))
        truth = next((truth for truth in truths if truth is not None), {"ground_truth": None})
        if not isinstance(truth, dict) or "ground_truth" not in truth:
            missing = "reward_model.ground_truth"
    if reader is None or missing:
        raise ValueError(
            f"dataset={name!r} has the columns {', '.join(columns)}; expected one of {', '.join(PROBLEM)} with one of "
            f"{', '.join(ANSWER + SOLUTION)}, or multiple choice as {EXPECTED}; missing: "
            f"{missing or 'a problem or an answer'}"
        )
    return partial(_read, reader, name)


def _read(reader: Callable[[dict[str, Any]], dict[str, Any]], name: str, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return reader(row)
    except ValueError as error:
        raise ValueError(f"dataset={name!r}: {error}") from None


def to_form(name: str, rows: Dataset, seed: int = 0) -> Dataset:
    """
    Bring rows to one form, and leave out those without a problem or an answer.

    Args:
        name (`str`):
            Of the data set, for the message of the error.
        rows (`Dataset`):
            Its rows.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of options.

    Returns:
        `Dataset`: with the columns of `FEATURES`.
    """
    reader = reader_of(name, rows, seed)
    rows = rows.map(reader, remove_columns=rows.column_names, features=FEATURES)
    return rows.filter(bool, input_columns="solution")
