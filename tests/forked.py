"""
Starts a worker script as `processes.launch` does, in processes that are forked from one which has imported everything:
imports take longer than these runs, and a launcher has imports of its own.
"""

import json
import multiprocessing
import os
import runpy
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import psutil
import torch

from processes import result_file


TIMEOUT = 300.0
# What libraries read when they are imported. The process to fork from does not know the path of this one.
AT_IMPORT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "DS_ACCELERATOR": "cpu",
    "PYTHONPATH": os.pathsep.join(str(folder) for folder in Path(__file__).parents[:2]),
}
CONTEXT = multiprocessing.get_context("forkserver")
# Another than that of the package's own studies, which a test may have started before.
SERVER = forkserver.ForkServer()
SERVER.set_forkserver_preload(["imported"])


def launch(worker: Path, folder: Path, processes: int, overrides: dict) -> dict:
    """The result of a run that succeeds; arguments as for `processes.begin`."""
    result, output = result_file(folder, processes), folder / "output.txt"
    result.unlink(missing_ok=True)
    output.write_text("")
    arguments = [str(result), json.dumps(overrides)]
    # accelerate leaves DeepSpeed out where its own variable asks for the CPU; `use_cpu` of the arguments is enough.
    shared = {} if "zero_stage" in overrides else {"ACCELERATE_USE_CPU": "true"}
    if processes > 1:
        # Here, so that nobody else can take the port before the first process does.
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    running: list = []
    try:
        start_from = patch.object(forkserver, "connect_to_new_process", SERVER.connect_to_new_process)
        with patch.dict(os.environ, AT_IMPORT), start_from:
            for rank in range(processes):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                running.append(CONTEXT.Process(target=_work, args=(worker, arguments, {**shared, **own}, output)))
                running[-1].start()
        deadline = time.monotonic() + TIMEOUT
        # One that failed leaves the others waiting.
        while any(process.is_alive() for process in running) and not any(process.exitcode for process in running):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        codes = [process.exitcode for process in running]
    finally:
        for process in running:
            if process.is_alive():
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
            process.join()
    assert codes == [0] * processes, f"{codes}: {output.read_text()[-20000:]}"
    return torch.load(result, weights_only=True)


def _work(worker: Path, arguments: list[str], environment: dict[str, str], output: Path) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if "ACCELERATE_USE_CPU" in environment:
        del os.environ["DS_ACCELERATOR"]
    os.environ.update(environment)
    sys.argv = [str(worker), *arguments]
    sys.path.insert(0, str(worker.parent))
    assert "trl_amft" in sys.modules, "an import that fails in the process to fork from is not told"
    runpy.run_path(str(worker), run_name="__main__")
