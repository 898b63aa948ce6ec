"""Starts a worker script in one or several processes and reads what it wrote."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from torch.distributed.elastic.utils.distributed import get_free_port


STDOUT, STDERR = "stdout.txt", "stderr.txt"


def begin(worker: Path, folder: Path, processes: int, overrides: dict) -> subprocess.Popen:
    """
    Begin the run of a worker.

    Args:
        worker (`Path`):
            Script that takes a file for its result, and JSON.
        folder (`Path`):
            Where the run writes.
        processes (`int`):
            How many processes train together.
        overrides (`dict`):
            Handed to the worker. With `"zero_stage"` DeepSpeed is used.
    """
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["MASTER_PORT"] = str(get_free_port())
    # accelerate leaves DeepSpeed out where its own variable asks for the CPU; `use_cpu` of the arguments is enough.
    environment |= {"DS_ACCELERATOR": "cpu"} if "zero_stage" in overrides else {"ACCELERATE_USE_CPU": "true"}
    command = [*launcher, str(worker), str(result_file(folder, processes)), json.dumps(overrides)]
    # Not pipes, which block a run when nobody reads them.
    with (folder / STDOUT).open("w") as stdout, (folder / STDERR).open("w") as stderr:
        return subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)


def kill(run: subprocess.Popen) -> None:
    """SIGKILL for a run and all that it started; a launcher gives each of its processes a group of its own."""
    launcher = psutil.Process(run.pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()
    run.wait()


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int], seconds: float = 10) -> bool:
    """Wait for the end of processes, so long at most; whether all have ended."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def start(worker: Path, folder: Path, processes: int, overrides: dict) -> subprocess.CompletedProcess:
    """Run a worker to its end; arguments as for [`begin`]."""
    run = begin(worker, folder, processes, overrides)
    try:
        run.wait(timeout=300)
    except subprocess.TimeoutExpired:
        kill(run)
        raise
    output = [(folder / name).read_text() for name in (STDOUT, STDERR)]
    return subprocess.CompletedProcess(run.args, run.returncode, *output)


def launch(worker: Path, folder: Path, processes: int, overrides: dict) -> dict:
    """The result of a run that succeeds; arguments as for [`begin`]."""
    run = start(worker, folder, processes, overrides)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-20000:]
    return torch.load(result_file(folder, processes), weights_only=True)


def result_file(folder: Path, processes: int) -> Path:
    """Where a worker writes its result."""
    return folder / f"result-{processes}.pt"
