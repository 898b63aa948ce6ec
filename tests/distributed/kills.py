"""
Kills a two-process ZeRO-3 run at random moments, saving included, resumes it each time, and compares with a run that
nobody killed: every parameter and the whole trajectory of μ, bit for bit. Each line of the log is one run.

    python tests/distributed/kills.py --kills 20 --log docs/results/kills.jsonl
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parents[1])]

import processes  # noqa: E402


WORKER = Path(__file__).parent / "worker.py"
SETTINGS = {
    "zero_stage": 3,
    "max_steps": 14,
    "meta_window": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "resume": "auto",
}


def whole_run(folder: Path) -> dict:
    """The result of a run that nobody kills."""
    return processes.launch(WORKER, folder, 2, SETTINGS)


def killed_run(folder: Path, moment: Callable[[Path], bool]) -> tuple[dict, str]:
    """
    Kill a run, then resume it to its end.

    Args:
        folder (`Path`):
            An empty folder for the run.
        moment (`Callable[[Path], bool]`):
            Looks at the folder with the checkpoints, again and again, and tells when to kill.

    Returns:
        `tuple[dict, str]`: the result of the resumed run, and what was on the disk at the kill.
    """
    run, checkpoints = processes.begin(WORKER, folder, 2, SETTINGS), folder / "run-2"
    while not moment(checkpoints):
        assert run.poll() is None, (folder / processes.STDERR).read_text()[-3000:]
        time.sleep(0.001)
    processes.kill(run)
    found = sorted(path.name for path in checkpoints.iterdir()) if checkpoints.is_dir() else []
    return processes.launch(WORKER, folder, 2, SETTINGS), " ".join(found) or "nothing"


def while_saving(step: int, delay: float = 0.0) -> Callable[[Path], bool]:
    """While the checkpoint of a step is written, `delay` seconds after the first file."""
    seen: list[float] = []

    def moment(checkpoints: Path) -> bool:
        if not seen and any((checkpoints / "saving" / f"checkpoint-{step}").glob("*")):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + delay

    return moment


def after_saving(step: int, delay: float = 0.0) -> Callable[[Path], bool]:
    """`delay` seconds after the checkpoint of a step has its name."""
    seen: list[float] = []

    def moment(checkpoints: Path) -> bool:
        if not seen and (checkpoints / f"checkpoint-{step}").is_dir():
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + delay

    return moment


def same(one: dict, other: dict) -> bool:
    """Whether two runs have the same trajectory of μ and the same parameters, bit for bit."""
    parameters = all(torch.equal(one["end"][name], value) for name, value in other["end"].items())
    return one["mu"] == other["mu"] and parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    done = len(options.log.read_text().splitlines()) if options.log.exists() else 0
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_run(Path(folder))
    for number in range(done, options.kills):
        chance = random.Random(options.seed * 1_000_003 + number)
        saving, step = number % 2 == 0, 2 * chance.randint(1, 6)
        delay = chance.uniform(0.0, 0.02) if saving else chance.uniform(0.0, 0.6)
        with tempfile.TemporaryDirectory() as folder:
            result, found = killed_run(Path(folder), (while_saving if saving else after_saving)(step, delay))
        line = {
            "kill": number,
            "moment": f"{'while' if saving else 'after'} saving step {step}, +{delay:.3f} s",
            "on disk": found,
            "equal": same(result, whole),
            "date": date.today().isoformat(),
        }
        with options.log.open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
