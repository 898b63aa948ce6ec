"""The command that runs a study: what is missing of it, several runs at a time, and its report."""

import argparse
import functools
import json
import multiprocessing
import os
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from .. import __version__
from ..compat import installed_versions
from ..reporting.study_report import write_study_report
from ..reporting.study_results import append_result, read_results
from .output_file import check_output, check_writable, may_be_folder
from .run_files import METRICS_FILE
from .study import Study, StudyRun, command_line, load_scores, read_study
from .study_worker import OUTPUT_FILE, SCORES_FILE, own_device, work
from .usage import USAGE_EXIT_CODE, UsageError, run_command


RESULTS_FILE = "runs.jsonl"
DIGEST_FILE = "digest.txt"
OF_EVERY_RUN = ("name", "digest", "status")
POLL_SECONDS = 0.2
SOURCE_METRIC = "amft/mu/"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message}; for example: compare.py --study recipes/studies/core.yaml")


def main(argv: list[str] | None = None) -> int:
    """
    The command `scripts/compare.py`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments without the program's name. Those of the process if not given.

    Returns:
        `int`: exit code: 0, or 1 if a run failed or all were refused. Bad input ends the process with 2.
    """
    return run_command(functools.partial(_compare, sys.argv[1:] if argv is None else argv))


def _compare(argv: list[str]) -> int:
    parser = _Parser(prog="compare.py", description="Run what is missing of a study, or report what is there.")
    parser.add_argument("--study", required=True, metavar="FILE", help="YAML file of the study")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one process and one thread each")
    parser.add_argument("--limit", type=int, metavar="N", help="start at most so many runs")
    parser.add_argument("--minutes", type=float, metavar="M", help="start no run after so many minutes")
    parser.add_argument("--only", metavar="TEXT", help="only runs with this text in their name, CONDITION/POLICY/…")
    parser.add_argument("--output", metavar="FOLDER", help="where everything goes; default outputs/studies/NAME")
    parser.add_argument("--results", metavar="FILE", help="JSON lines to append to; default runs.jsonl in that folder")
    parser.add_argument("--list", action="store_true", help="name the runs that are missing and stop")
    parser.add_argument("--report", action="store_true", help="write the report of what is there and run nothing")
    parser.add_argument("--retry_refused", action="store_true", help="runs that were refused are missing as well")
    arguments = parser.parse_args(argv)
    for name in ("jobs", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"{name}={value} must be at least 1")
    if arguments.minutes is not None and not arguments.minutes >= 0.0:
        raise UsageError(f"minutes={arguments.minutes} must be at least 0")
    study = read_study(arguments.study)
    if arguments.only is not None and not any(arguments.only in run.name for run in study.runs):
        raise UsageError(f"only={arguments.only!r} is in the name of no run; give a part of one, see --list")
    output = Path(arguments.output or Path("outputs") / "studies" / study.name)
    results = Path(arguments.results or output / RESULTS_FILE)
    if not may_be_folder(output):
        raise UsageError(f"output={str(output)!r} is a file, or lies below one; give a folder")
    check_writable(output, "output")
    # A report only reads it.
    if not (arguments.report and results.is_file()):
        check_output(results, "results")
    digests = {run.name: run.digest for run in study.runs}
    try:
        rows = read_results(results, OF_EVERY_RUN)
    except ValueError as error:
        raise UsageError(f"results={str(results)!r} is no file of a study ({error}); give another one") from None
    # Results of settings that the study no longer has are no part of it.
    rows = [row for row in rows if digests.get(row["name"]) == row["digest"]]
    if arguments.report:
        if all(row["status"] == "refused" for row in rows):
            raise UsageError(
                f"results={str(results)!r} holds no finished run of this study; run it first, or give another file"
            )
        print(f"report: {write_study_report(study, rows, output)}")
        return 0
    refused = {row["name"] for row in rows if row["status"] == "refused"}
    done = {row["name"] for row in rows} - (refused if arguments.retry_refused else set())
    missing = [run for run in study.runs if run.name not in done]
    missing = [run for run in missing if arguments.only is None or arguments.only in run.name]
    note = f", {len(refused)} refused; run those again with --retry_refused" if refused & done else ""
    print(f"{study.name}: {len(study.runs)} runs, {len(missing)} missing{note}")
    if arguments.list:
        print("\n".join(run.name for run in missing))
        return 0
    missing = missing[: arguments.limit]
    load_scores(study, missing)
    results.parent.mkdir(parents=True, exist_ok=True)
    deadline = None if arguments.minutes is None else time.monotonic() + 60.0 * arguments.minutes
    return StudyRunner(study, output, results).run(missing, arguments.jobs, deadline)


class StudyRunner:
    """
    Runs parts of a study. Where there are several GPUs, runs at the same time share them evenly, one GPU each.

    Args:
        study ([`~trl_amft.cli.study.Study`]):
            The study.
        output (`Path`):
            Folder of the runs.
        results (`Path`):
            JSON lines, one of which is appended per finished run.
    """

    def __init__(self, study: Study, output: Path, results: Path):
        self.study = study
        self.output = output
        self.results = results
        self._failed = self._refused = self._finished = 0
        self._by_name = {run.name: run for run in study.runs}
        # Processes start from one that has imported everything, which takes longer than a short run.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["trl_amft.cli.study_worker"])
        # Before any of them imports torch.
        os.environ["OMP_NUM_THREADS"] = "1"

    def run(self, runs: list[StudyRun], jobs: int, deadline: float | None = None) -> int:
        """
        Run until all are done, or no further one may start.

        Args:
            runs (`list[StudyRun]`):
                What to run, in this order.
            jobs (`int`):
                Runs at a time.
            deadline (`float`, *optional*):
                Time of the monotonic clock after which none starts.

        Returns:
            `int`: 0, or 1 if any failed or all were refused.
        """
        waiting = list(runs)
        running: dict[StudyRun, tuple[Any, float, int]] = {}
        warm_ups: set[StudyRun] = set()
        try:
            while waiting or running:
                for run, (process, since, _) in list(running.items()):
                    made = run in warm_ups and self._has_warm_up(run)
                    if made:
                        process.kill()
                    elif process.is_alive():
                        continue
                    process.join()
                    del running[run]
                    if run not in warm_ups:
                        self._finish(run, process.exitcode, time.monotonic() - since)
                        continue
                    warm_ups.remove(run)
                    if not made:
                        self._fail(run, process.exitcode)
                        waiting = [other for other in waiting if other.start != run.name]
                if deadline is not None and time.monotonic() > deadline:
                    waiting = []
                following = self._next(waiting, running)
                if following is None or len(running) == jobs:
                    time.sleep(POLL_SECONDS)
                    continue
                if following in waiting:
                    waiting.remove(following)
                else:
                    warm_ups.add(following)
                worker = min(set(range(jobs)) - {number for _, _, number in running.values()})
                running[following] = (self._start(following, worker), time.monotonic(), worker)
        finally:
            for process, *_ in running.values():
                process.terminate()
        return int(bool(self._failed or (self._refused and not self._finished)))

    def _next(self, waiting: list[StudyRun], running: dict[StudyRun, tuple[Any, float, int]]) -> StudyRun | None:
        """The first run that waits for no other, or the run that makes its warm-up where that is lost."""
        for run in waiting:
            if run.start is None:
                return run
            if all(other.name != run.start for other in (*waiting, *running)):
                return run if self._has_warm_up(run) else self._by_name[run.start]
        return None

    def folder(self, name: str) -> Path:
        """Output folder of a run."""
        return self.output / "runs" / name

    def _checkpoint(self, run: StudyRun) -> Path:
        return self.folder(run.start or run.name) / f"checkpoint-{run.warm_up_steps}"

    def _has_warm_up(self, run: StudyRun) -> bool:
        """Whether the warm-up of a run is there, made by the settings that the study has now."""
        start = self._by_name[run.start or run.name]
        digest = self.folder(start.name) / DIGEST_FILE
        return self._checkpoint(run).is_dir() and digest.is_file() and digest.read_text() == start.digest

    def _start(self, run: StudyRun, worker: int) -> Any:
        folder = self.folder(run.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / DIGEST_FILE).write_text(run.digest)
        checkpoint = self._checkpoint(run) if run.start is not None else None
        arguments = command_line(run, self.study.recipe, folder, checkpoint)
        if run.policy == self.study.start and run.warm_up_steps:
            arguments += ["--save_strategy", "steps", "--save_steps", str(run.warm_up_steps)]
        scored_by = self.study.scored_by.get(run.condition, {})
        process = self._context.Process(target=work, args=(arguments, str(folder), scored_by, own_device(worker)))
        process.start()
        return process

    def _fail(self, run: StudyRun, code: int | None) -> None:
        self._failed += 1
        print(f"{run.name}: failed with exit code {code}, see {self.folder(run.name) / OUTPUT_FILE}", flush=True)

    def _finish(self, run: StudyRun, code: int | None, seconds: float) -> None:
        folder = self.folder(run.name)
        row = {
            "study": self.study.name,
            "name": run.name,
            "digest": run.digest,
            "policy": run.policy,
            "condition": run.condition,
            "learning_rate": run.learning_rate,
            "seed": run.seed,
            "settings": run.settings,
            "process_seconds": round(seconds, 1),
            "date": date.today().isoformat(),
            "versions": {"trl_amft": __version__, **installed_versions()},
        }
        # A run that a signal stopped ends well and has no numbers.
        if code == 0 and all((folder / name).is_file() for name in (SCORES_FILE, METRICS_FILE)):
            row |= {"status": "finished", **run_numbers(folder, run.start is not None)}
            self._finished += 1
            print(f"{run.name}: {row['accuracy']:.3f} in {seconds / 60:.1f} min", flush=True)
        elif code == USAGE_EXIT_CODE:
            line = (folder / OUTPUT_FILE).read_text(encoding="utf-8").strip().splitlines()[-1]
            row |= {"status": "refused", "reason": line.removeprefix("error: ")}
            self._refused += 1
            print(f"{run.name}: refused, {row['reason']}", flush=True)
        else:
            self._fail(run, code)
            return
        append_result(self.results, row)
        for weights in folder.glob("*.safetensors"):
            weights.unlink()


def run_numbers(folder: Path, resumed: bool) -> dict[str, Any]:
    """
    What a study keeps of a finished run.

    Args:
        folder (`Path`):
            Its output folder.
        resumed (`bool`):
            Whether it went on from the warm-up of another run, whose time it then counts as well.

    Returns:
        `dict[str, Any]`: accuracy at the end with its standard error, rollouts, seconds of training, further scores,
        seconds of the processor (without a shared warm-up), the curves of held-out accuracy and μ by step, that of
        each source where it has a weight, and `marks`: steps with the rollouts and seconds up to them.
    """
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    log = json.loads((folder / "log_history.json").read_text(encoding="utf-8"))
    held_out = metrics["held_out"]
    last, warm_up = held_out[-1], next((row for row in held_out if row["stage"] == "warm_up"), None)
    marks = [[row["step"], row["rollouts"], row["seconds"]] for row in held_out]
    by_source: dict[str, list] = {}
    for row in log:
        for name in (name for name in row if name.startswith(SOURCE_METRIC)):
            by_source.setdefault(name.removeprefix(SOURCE_METRIC), []).append([row["step"], round(row[name], 5)])
    if resumed:
        assert warm_up is not None, "a warm-up is measured at its end"
        marks[-1][2] += warm_up["seconds"]
    return {
        "accuracy": last["accuracy"],
        "standard_error": last["standard_error"],
        "rollouts": last["rollouts"],
        "seconds": marks[-1][2],
        "after_warm_up": warm_up and warm_up["accuracy"],
        **json.loads((folder / SCORES_FILE).read_text(encoding="utf-8")),
        "marks": marks,
        "accuracy_curve": [[row["step"], row["eval_reward"]] for row in log if "eval_reward" in row],
        "mu_curve": [[row["step"], round(row["amft/mu"], 5)] for row in log if "amft/mu" in row],
        "source_curves": by_source,
    }
