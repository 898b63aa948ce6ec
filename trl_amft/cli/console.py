"""
The console command `amft`: one word for each of the scripts.

    amft train --recipe recipes/quickstart.yaml
    amft report outputs/quickstart
    accelerate launch -m trl_amft.cli.console train --recipe recipes/math.yaml
"""

import importlib
import sys
from collections.abc import Callable
from typing import NoReturn

from .. import __version__
from .leave import leave
from .usage import UsageError, run_command, suggest


# What each one does; its module is the one of the same name beside this file, and is imported when it is asked for.
COMMANDS = {
    "train": "one run from a recipe",
    "evaluate": "a trained model on held-out benchmarks",
    "compare": "several methods, seeds and recipes, side by side",
    "report": "the folder of a run as one HTML page and pictures",
    "doctor": "what is wrong before a run begins, and what to do",
    "prepare_maths": "a data set of maths problems, checked and counted",
    "make_prefixes": "rows with parts of solutions, for rewards of progress",
    "imagine": "demonstrations from imagined conversations",
    "fit_mixture": "recipes of pilot runs, and the best mixture of domains from them",
}


def main(argv: list[str] | None = None) -> int:
    """
    Args:
        argv (`list[str]`, *optional*):
            The sub-command and its arguments. Those of the process if not given.

    Returns:
        `int`: exit code of the sub-command.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["--version"], ["-V"]):
        print(f"trl_amft {__version__}")
        return 0
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    return run_command(lambda: command(argv[0]))(argv[1:])


def command(name: str) -> Callable[[list[str]], int]:
    """
    Args:
        name (`str`):
            A key of `COMMANDS`.

    Returns:
        `Callable`: its `main`.
    """
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is no sub-command of amft; {suggest(name, COMMANDS)}")
    return importlib.import_module(f"{__package__}.{name}").main


def usage() -> str:
    """What `amft --help` prints."""
    lines = [f"  amft {name:15}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: amft COMMAND [ARGUMENTS]", "", *lines, "", "amft COMMAND --help tells more."])


def run() -> NoReturn:
    """The entry point of the installed command."""
    leave(main())


if __name__ == "__main__":
    run()
