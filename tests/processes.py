"""Starts a worker script in one or several processes and reads what it wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.utils.distributed import get_free_port


def start(worker: Path, folder: Path, processes: int, overrides: dict) -> subprocess.CompletedProcess:
    """
    Run a worker to its end.

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
    command = [*launcher, str(worker), str(_result(folder, processes)), json.dumps(overrides)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def launch(worker: Path, folder: Path, processes: int, overrides: dict) -> dict:
    """The result of a run that succeeds; arguments as for [`start`]."""
    run = start(worker, folder, processes, overrides)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-20000:]
    return torch.load(_result(folder, processes), weights_only=True)


def _result(folder: Path, processes: int) -> Path:
    return folder / f"result-{processes}.pt"
