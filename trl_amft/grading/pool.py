"""A few processes that compare formulas, and that end when they should: per item, per batch, and with their owner.

The processes are programs started anew, so nothing of CUDA, of threads or of the training script is copied into them,
and they import SymPy but not torch. Each serves one item at a time. Any number of threads may use a pool.
"""

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 300.0
# Wall time for each second of CPU time: how busy a machine may be, or how long a formula may wait for something.
PATIENCE = 20.0
# How much later than the kernel this process gives up, and ends the worker itself.
GRACE = 2.0

# What can become of an item.
SAME, DIFFERENT, TIME, MEMORY, KILLED, BUDGET = "same", "different", "time", "memory", "killed", "budget"


class WorkerError(RuntimeError):
    """A worker process could not be started."""


class FormulaPool:
    """
    Pool of processes that compare formulas with math-verify.

    Args:
        workers (`int`, *optional*):
            Number of processes. By default the cores of this process, shared with the other processes that a launcher
            has started on the machine, at least 1 and at most 4.
        item_seconds (`float`, *optional*, defaults to `3.0`):
            CPU time of one comparison.
        memory_mb (`int`, *optional*, defaults to `512`):
            Address space of one worker in MiB. An idle one has about 70.
    """

    def __init__(self, *, workers: int | None = None, item_seconds: float = 3.0, memory_mb: int = 512):
        for name, value in (("workers", workers), ("item_seconds", item_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be positive")
        if memory_mb < 128:
            raise ValueError(f"memory_mb={memory_mb} must be at least 128; SymPy alone takes 70")
        if os.name != "posix":
            raise WorkerError(f"grading formulas needs timers of a POSIX system, os.name is {os.name!r}; use Linux")
        self.item_seconds = item_seconds
        self.memory_mb = memory_mb
        self.workers = default_workers() if workers is None else workers
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="grading")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._started: list[Worker] = []
        self._closed = False

    def compare(self, pairs: list[tuple[str, str]], budget: float) -> list[str]:
        """
        Compare formulas.

        Args:
            pairs (`list[tuple[str, str]]`):
                Right answer and given answer, both without frames.
            budget (`float`):
                Seconds of wall time for all of them together, once the workers run. What is not decided by then is not
                started, or is stopped.

        Returns:
            `list[str]`: per pair `"same"` or `"different"`, or why there is no verdict: `"time"`, `"memory"`,
            `"killed"` (the process was ended by something else) or `"budget"`.
        """
        if not pairs:
            return []
        # Starting takes a second or two, on a busy machine many; the formulas are not to blame for it.
        self._start(min(self.workers, len(pairs)))
        deadline = time.monotonic() + budget
        futures = [self._executor.submit(self._run, gold, answer, deadline) for gold, answer in pairs]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End all processes. Comparisons under way end with `"killed"`."""
        with self._lock:
            self._closed = True
            started, self._started = self._started, []
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in started:
            worker.kill()

    def process_ids(self) -> list[int]:
        """Process ids of the workers that run now."""
        with self._lock:
            return [worker.process.pid for worker in self._started if worker.process.poll() is None]

    def _start(self, count: int) -> None:
        def start() -> None:
            if not self._worker().wait_ready(time.monotonic() + START_SECONDS):
                raise WorkerError(f"a grading process did not start within {START_SECONDS:.0f} s; free the machine")

        for future in [self._executor.submit(start) for _ in range(count)]:
            future.result()

    def _worker(self) -> "Worker":
        """The worker of this thread, a new one where it has none that is alive."""
        worker = getattr(self._local, "worker", None)
        if worker is not None and worker.process.poll() is None:
            return worker
        with self._lock:
            if self._closed:
                raise WorkerError("the pool is closed")
            worker = self._local.worker = Worker(self.memory_mb)
            self._started = [known for known in self._started if known.process.poll() is None] + [worker]
        return worker

    def _run(self, gold: str, answer: str, deadline: float) -> str:
        if time.monotonic() >= deadline:
            return BUDGET
        worker = self._worker()
        try:
            # One that has to start anew does so on the time of the batch, and goes on starting after it.
            if not worker.wait_ready(deadline):
                return BUDGET
        except WorkerError:
            # Others have started before, so it is no matter of what is installed.
            return KILLED
        left = deadline - time.monotonic()
        return worker.compare(gold, answer, self.item_seconds, left) if left > 0 else BUDGET


class Worker:
    """
    One process and the pipes to it.

    Args:
        memory_mb (`int`):
            Its address space in MiB.
    """

    def __init__(self, memory_mb: int):
        # A group of its own, so that Ctrl-C reaches the owner alone, and worker and child end together.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(memory_mb << 20)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None, "both are pipes"
        self._requests, self._replies = self.process.stdin, self.process.stdout
        self._rest = b""
        self._ready = False
        self._ids = itertools.count()

    def wait_ready(self, end: float) -> bool:
        """Whether it has started by the monotonic time `end`. Raises [`WorkerError`] if it never will."""
        if self._ready:
            return True
        message = self._read(end)
        if message is None and self.process.poll() is None:
            return False
        if message is None or "ready" not in message:
            self.kill()
            reason = (message or {}).get("error") or f"it ended with code {self.process.returncode}"
            raise WorkerError(
                f"a grading process of {sys.executable} did not start ({reason}); "
                "run `pip install 'trl_amft[math]'` there, or free memory"
            )
        self._ready = True
        return True

    def compare(self, gold: str, answer: str, seconds: float, left: float) -> str:
        wanted, wall = next(self._ids), PATIENCE * seconds
        granted = min(wall, left)
        request = {"id": wanted, "gold": gold, "answer": answer, "cpu": seconds, "wall": granted}
        try:
            self._send(json.dumps(request).encode() + b"\n")
        except OSError:
            self.kill()
            return KILLED
        end = time.monotonic() + granted + GRACE
        message, taken = self._read(end), False
        # A child that was killed before it took the request has left it to the next one.
        while message is not None and ("taken" in message or message.get("id", wanted if taken else None) != wanted):
            taken = taken or message.get("id") == wanted
            message = self._read(end)
        if message is None:
            outcome = TIME if self.process.poll() is None else KILLED
            self.kill()
            return outcome
        failed = message.get("failed")
        if failed in ("cpu", "wall"):
            return BUDGET if failed == "wall" and left < wall else TIME
        return failed or (SAME if message["same"] else DIFFERENT)

    def kill(self) -> None:
        """End the process and its child, wait for it, and close the pipes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self._requests, self._replies):
            pipe.close()

    def _send(self, data: bytes) -> None:
        while data:
            data = data[self._requests.write(data) :]

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._replies.fileno(), select.POLLIN)
        return bool(poll.poll(1000 * max(seconds, 0.0)))

    def _read(self, end: float) -> dict | None:
        """The next message; `None` if there is none in time, or no process any more."""
        while b"\n" not in self._rest:
            try:
                if not self._readable(end - time.monotonic()):
                    return None
                data = os.read(self._replies.fileno(), 65536)
            # Another thread has closed the pool.
            except (OSError, ValueError):
                return None
            if not data:
                # Its end of the pipe may close a moment before it can be waited for.
                time.sleep(0.01)
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def default_workers() -> int:
    """
    Returns:
        `int`: cores of this process divided by the processes of the launcher on this machine, between 1 and 4.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
