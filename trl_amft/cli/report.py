"""The command that makes the report of a run: from its folder to one HTML page and its pictures."""

import argparse
import functools
import sys
from pathlib import Path

from ..reporting.run_folder import NoRunError, read_run
from ..reporting.run_report import write_report
from .usage import UsageError, run_command


def main(argv: list[str] | None = None) -> int:
    """
    The command `scripts/report.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.

    Returns:
        `int`: exit code 0. Bad input ends the process with 2.
    """
    return run_command(functools.partial(_report, sys.argv[1:] if argv is None else argv))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message}; for example: report.py outputs/quickstart")


def _report(argv: list[str]) -> int:
    parser = _Parser(
        prog="report.py",
        description="One self-contained HTML page and PNGs from the folder of a run: finished, running or dead. "
        "Several folders are compared.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="output_dir of a run, or one of its checkpoints")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where to write; by default `report` in the run's folder, or beside the first of several",
    )
    arguments = parser.parse_args(argv)
    try:
        runs = [read_run(folder) for folder in arguments.runs]
    except NoRunError as error:
        raise UsageError(error) from None
    first = runs[0].folder
    output = Path(arguments.output) if arguments.output else (first if len(runs) == 1 else first.parent) / "report"
    try:
        page = write_report(runs, output)
    except OSError as error:
        raise UsageError(f"output={str(output)!r} cannot be written ({error}); give another with --output") from None
    print(f"report: {page}")
    return 0
