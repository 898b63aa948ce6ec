"""The command behind `scripts/prepare_maths.py`: read, look at every row with a bar, write a file, tell the counts."""

import functools
import sys
from pathlib import Path

from datasets import Dataset, Features, Value
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoTokenizer

from ..evaluation.generation import NO_TOKENIZER, makes_tokens
from ..grading import Grader
from ..tasks.maths_preparation import EXCLUDED, prepare, problem_of, summary_rows
from ..tasks.maths_rows import MESSAGES, load_rows, reader_of
from .evaluate_arguments import OneLineParser
from .output_file import check_output
from .usage import UsageError, run_command


WRITERS = {".jsonl": "to_json", ".parquet": "to_parquet"}
FEATURES = Features(
    {
        "data_source": Value("string"),
        "prompt": MESSAGES,
        "target": MESSAGES,
        "ability": Value("string"),
        "reward_model": {"ground_truth": Value("string"), "style": Value("string")},
        "extra_info": {"index": Value("int64"), "split": Value("string")},
    }
)


def main(argv: list[str] | None = None, description: str | None = None) -> int:
    """
    Entry point of `scripts/prepare_maths.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.
        description (`str`, *optional*):
            For the help.

    Returns:
        `int`: exit code 0. Bad input ends the process with 2.
    """
    argv = sys.argv[1:] if argv is None else argv
    run_command(functools.partial(_run, argv, description))
    return 0


def _run(argv: list[str], description: str | None) -> None:
    parser = OneLineParser(prog="prepare_maths.py", description=description, allow_abbrev=False)
    parser.add_argument("dataset", help="name on the Hub, JSON lines, JSON or Parquet file, or saved folder")
    parser.add_argument("output", help="file to write, .jsonl or .parquet")
    parser.add_argument("--split", default="train", help="default train")
    parser.add_argument("--config", help="configuration of a data set of the Hub")
    parser.add_argument("--exclude", nargs="+", default=[], help="files or names whose problems are left out")
    parser.add_argument("--exclude_split", default="test", help="split of the excluded sets; default test")
    parser.add_argument("--max_length", type=int, help="longest demonstration, in tokens or else characters")
    parser.add_argument("--tokenizer", help="model whose tokens are counted; characters if not given")
    args = parser.parse_args(argv)
    output = Path(args.output)
    if output.suffix not in WRITERS:
        raise UsageError(f"output={args.output!r} has no known ending; give a name with {' or '.join(WRITERS)}")
    check_output(output)
    if output.exists():
        raise UsageError(f"output={args.output!r} exists; delete it, or give another name")
    if args.max_length is not None and args.max_length < 1:
        raise UsageError(f"max_length={args.max_length} must be at least 1")
    length, unit = _length(args.tokenizer)
    try:
        rows = load_rows(args.dataset, args.split, args.config)
        read = list(map(reader_of(args.dataset, rows), rows))
        excluded = []
        for name in args.exclude:
            others = load_rows(name, args.exclude_split)
            excluded += [problem_of(row["prompt"]) for row in map(reader_of(name, others), others)]
    except ValueError as error:
        raise UsageError(error) from None

    grader = Grader()
    try:
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("rows", total=len(read))
            done = prepare(
                read,
                grader,
                excluded=excluded,
                max_length=args.max_length,
                length=length,
                source=args.dataset,
                progress=lambda count: progress.advance(bar, count),
            )
    finally:
        grader.close()
    if not done.rows:
        raise UsageError(f"dataset={args.dataset!r} leaves no row: {dict(done.dropped)}; give another one")
    output.parent.mkdir(parents=True, exist_ok=True)
    getattr(Dataset.from_list(done.rows, features=FEATURES), WRITERS[output.suffix])(str(output))
    table = Table(title=args.output, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for row in summary_rows(done, unit):
        table.add_row(*row)
    Console(width=max(Console().width, 110)).print(table)
    if args.exclude and not done.dropped[EXCLUDED]:
        print(f"exclude={args.exclude!r} leaves out no row; look whether the prompts hold the problems word for word")


def _length(tokenizer: str | None):
    if tokenizer is None:
        return len, "characters"
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    # Files, Hub and tokenizers fail in ways without a common base class.
    except Exception as error:
        raise UsageError(f"tokenizer={tokenizer!r} cannot be loaded: {error}") from None
    if not makes_tokens(loaded):
        raise UsageError(f"tokenizer={tokenizer!r} {NO_TOKENIZER}")
    return (lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])), "tokens"
