"""The evaluation sets of maths and of what lies outside it, each with the rows it was published with."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from .maths_rows import FILE_BUILDERS, load_rows, to_form


@dataclass(frozen=True)
class EvaluationSet:
    """
    A published set.

    Args:
        hub (`str`):
            Name on the Hub.
        rows (`tuple[int, ...]`):
            Number of rows it was published with; two where a release has one more.
        split (`str`, *optional*, defaults to `"test"`):
            Its split.
        config (`str`, *optional*):
            Its configuration.
        samples (`int`, *optional*, defaults to `1`):
            Completions per problem in the usual protocol: many where there are few problems.
    """

    hub: str
    rows: tuple[int, ...]
    split: str = "test"
    config: str | None = None
    samples: int = 1


SETS = {
    "aime24": EvaluationSet("math-ai/aime24", (30,), samples=32),
    "aime25": EvaluationSet("math-ai/aime25", (30,), samples=32),
    "amc": EvaluationSet("AI-MO/aimo-validation-amc", (83,), split="train", samples=32),
    "math500": EvaluationSet("HuggingFaceH4/MATH-500", (500,)),
    "minerva": EvaluationSet("math-ai/minervamath", (272,)),
    "olympiadbench": EvaluationSet("math-ai/olympiadbench", (674, 675)),
    "aime24_maxwell": EvaluationSet("Maxwell-Jia/AIME_2024", (30,), split="train", samples=32),
    "amc23": EvaluationSet("math-ai/amc23", (40,), samples=32),
    "arc_challenge": EvaluationSet("allenai/ai2_arc", (1172,), config="ARC-Challenge"),
    "gpqa_diamond": EvaluationSet("Idavidrein/gpqa", (198,), split="train", config="gpqa_diamond"),
    "mmlu_pro": EvaluationSet("TIGER-Lab/MMLU-Pro", (12032,)),
}
SUITES = {
    "math": ("aime24", "aime25", "amc", "math500", "minerva", "olympiadbench"),
    "ood": ("arc_challenge", "gpqa_diamond", "mmlu_pro"),
}


def load_set(name: str, folder: str | Path | None = None, seed: int = 0) -> Dataset:
    """
    Load an evaluation set.

    Args:
        name (`str`):
            A key of `SETS`.
        folder (`str` or `Path`, *optional*):
            Where a copy `NAME.jsonl`, `NAME.json`, `NAME.parquet` or a saved folder `NAME` is looked for first.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of options where the right one stands first.

    Returns:
        `Dataset`: columns `prompt` (messages), `solution` (answer or letter, boxed), `level` and `subject` (text, or
        `None`).
    """
    if name not in SETS:
        raise ValueError(f"set={name!r} is not known; choose from: {', '.join(SETS)}")
    known = SETS[name]
    copies = [] if folder is None else [Path(folder, name + ending) for ending in ("", *FILE_BUILDERS)]
    source = next((str(path) for path in copies if path.exists()), known.hub)
    rows = load_rows(source, known.split, known.config if source == known.hub else None)
    return to_form(source, rows, seed).remove_columns("demonstration")
