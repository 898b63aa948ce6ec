"""The processes behind the grader: they end when they should, and are replaced when they should not have."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from processes import gone
from trl_amft.grading import pool
from trl_amft.grading.pool import FormulaPool, WorkerError


EASY = [("2\\sqrt{3}", "\\sqrt{12}"), ("x^2+2x+1", "(x+1)^2"), ("2", "\\sqrt{5}")]
EASY_OUTCOMES = ["same", "same", "different"]
ENDLESS = ("5", "9^{9^{9^9}}")
# The real worker with another comparison.
OTHER_WORKER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("worker", {path!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
def same(gold, answer):
    {body}
worker.same = same
sys.exit(worker.main())
"""


@pytest.fixture(scope="module")
def formulas():
    made = FormulaPool(workers=1)
    yield made
    made.close()


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *(child.pid for child in psutil.Process(pid).children())]


def test_outcomes_in_order(formulas):
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES
    assert formulas.compare([], 60) == []


def test_endless_formula_is_stopped_and_the_next_is_not_late(formulas, monkeypatch):
    # It is the CPU time that ends it, not the wall time.
    monkeypatch.setattr(pool, "PATIENCE", 1000.0)
    formulas.compare(EASY[:1], 60)
    (pid,) = formulas.process_ids()
    assert formulas.compare([ENDLESS, *EASY], 60) == ["time", *EASY_OUTCOMES]
    # The kernel ended the child; the process that imports did not have to start again.
    assert formulas.process_ids() == [pid]


def test_budget_of_a_batch(formulas):
    formulas.compare(EASY[:1], 60)
    started = time.monotonic()
    outcomes = formulas.compare([ENDLESS] * 20 + EASY, 1.5)
    assert time.monotonic() - started < 5
    assert set(outcomes) <= {"time", "budget"} and outcomes[-3:] == ["budget"] * 3
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES


def test_memory_is_limited(monkeypatch, tmp_path):
    other = tmp_path / "worker.py"
    other.write_text(OTHER_WORKER.format(path=str(pool.WORKER), body="return len(bytearray(int(answer) << 20)) > 0"))
    monkeypatch.setattr(pool, "WORKER", other)
    # The comparisons that warm it up end with an error, as a formula's would.
    other.write_text(other.read_text().replace("sys.exit", "worker.warm_up = lambda: None\nsys.exit"))
    formulas = FormulaPool(workers=1, memory_mb=200)
    try:
        assert formulas.compare([("", "10"), ("", "300"), ("", "10")], 60) == ["same", "memory", "same"]
    finally:
        formulas.close()


def test_a_formula_that_waits_is_stopped(monkeypatch, tmp_path):
    other = tmp_path / "worker.py"
    other.write_text(OTHER_WORKER.format(path=str(pool.WORKER), body="import time; time.sleep(float(answer))"))
    other.write_text(other.read_text().replace("sys.exit", "worker.warm_up = lambda: None\nsys.exit"))
    monkeypatch.setattr(pool, "WORKER", other)
    monkeypatch.setattr(pool, "PATIENCE", 2.0)
    formulas = FormulaPool(workers=1, item_seconds=0.5)
    try:
        assert formulas.compare([("", "99"), ("", "0")], 60) == ["time", "different"]
        assert formulas.compare([("", "99")], 0.5) == ["budget"]
    finally:
        formulas.close()


@pytest.mark.parametrize("which", [0, 1])
def test_killed_process_is_replaced(formulas, which):
    """0 is the process that was started, 1 its child."""
    formulas.compare(EASY[:1], 60)
    victim = family(formulas.process_ids()[0])[which]
    os.kill(victim, signal.SIGKILL)
    assert gone([victim])
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES


def test_a_child_killed_before_it_took_a_formula_leaves_it_to_the_next(formulas):
    formulas.compare(EASY[:1], 60)
    parent, child = family(formulas.process_ids()[0])
    # The formula is sent before the parent can tell.
    os.kill(parent, signal.SIGSTOP)
    os.kill(child, signal.SIGKILL)
    threading.Timer(0.5, os.kill, (parent, signal.SIGCONT)).start()
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES


def test_killed_while_it_works(formulas):
    formulas.compare(EASY[:1], 60)
    (pid,) = formulas.process_ids()
    threading.Timer(0.3, os.killpg, (pid, signal.SIGKILL)).start()
    assert formulas.compare([ENDLESS, *EASY], 60) == ["killed", *EASY_OUTCOMES]


def test_close_leaves_no_process():
    formulas = FormulaPool(workers=1)
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES
    pids = family(formulas.process_ids()[0])
    assert len(pids) == 2
    formulas.close()
    assert gone(pids)
    with pytest.raises(RuntimeError):
        formulas.compare(EASY, 60)


def test_owner_that_dies_takes_them_along(tmp_path):
    """Even with SIGKILL, and even in the middle of an endless formula."""
    script = tmp_path / "owner.py"
    script.write_text(
        "import importlib.util, threading, time\n"
        f"spec = importlib.util.spec_from_file_location('pool', {pool.__file__!r})\n"
        "pool = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(pool)\n"
        "formulas = pool.FormulaPool(workers=1, item_seconds=2.0)\n"
        f"formulas.compare({EASY[:1]!r}, 60)\n"
        f"threading.Thread(target=formulas.compare, args=([{ENDLESS!r}], 60), daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "print(formulas.process_ids()[0], flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    pids = family(int(owner.stdout.readline()))
    assert len(pids) == 2
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert gone(pids, 60)


def test_from_many_threads_and_an_outer_alarm_survives(formulas):
    fired = []
    previous = signal.signal(signal.SIGALRM, lambda *_: fired.append(True))
    try:
        signal.alarm(1)
        results = []
        threads = [threading.Thread(target=lambda: results.append(formulas.compare(EASY, 60))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert results == [EASY_OUTCOMES] * 8 and fired == [True]


def test_workers_import_little(formulas):
    formulas.compare(EASY, 60)
    # torch alone would take several times as much.
    assert psutil.Process(formulas.process_ids()[0]).memory_info().rss < 150e6


def test_cannot_start(monkeypatch, tmp_path):
    broken = tmp_path / "worker.py"
    broken.write_text('print(\'{"error": "ModuleNotFoundError: no math_verify"}\')\n')
    monkeypatch.setattr(pool, "WORKER", broken)
    with pytest.raises(WorkerError, match=r"did not start \(ModuleNotFoundError: no math_verify\); run `pip install"):
        FormulaPool(workers=1).compare(EASY, 60)


def test_start_that_takes_long(monkeypatch, tmp_path):
    """The first one is waited for; a later one takes no more than the batch has, and is there for the next batch."""
    slow = tmp_path / "worker.py"
    body = OTHER_WORKER.format(path=str(pool.WORKER), body="return True")
    slow.write_text(body.replace("sys.exit", "worker.warm_up = lambda: None\nimport time; time.sleep(1.5)\nsys.exit"))
    monkeypatch.setattr(pool, "WORKER", slow)
    formulas = FormulaPool(workers=1)
    try:
        assert formulas.compare([("", "")], 0.5) == ["same"]
        threading.Timer(0.0, os.killpg, (formulas.process_ids()[0], signal.SIGKILL)).start()
        time.sleep(0.3)
        # As if it had been killed within the batch, not before.
        monkeypatch.setattr(formulas, "_start", lambda count: None)
        started = time.monotonic()
        assert formulas.compare([("", "")] * 3, 0.5) == ["budget"] * 3
        assert time.monotonic() - started < 1.4
        assert formulas.compare([("", "")], 60) == ["same"]
    finally:
        formulas.close()


def test_process_that_cannot_come_back(formulas, monkeypatch, tmp_path):
    formulas.compare(EASY[:1], 60)
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit(3)\n")
    with monkeypatch.context() as patch:
        patch.setattr(pool, "WORKER", broken)
        os.killpg(formulas.process_ids()[0], signal.SIGKILL)
        assert gone(formulas.process_ids())
        with pytest.raises(WorkerError, match=r"did not start \(it ended with code 3\)"):
            formulas.compare(EASY, 60)
        patch.setattr(formulas, "_start", lambda count: None)
        assert formulas.compare(EASY, 60) == ["killed"] * 3
    assert formulas.compare(EASY, 60) == EASY_OUTCOMES


def test_processes_of_a_launch_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for ranks, expected in (("1", 4), ("8", 2), ("32", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert pool.default_workers() == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"workers": 0}, "workers=0 must be positive"),
        ({"item_seconds": -1.0}, "item_seconds=-1.0 must be positive"),
        ({"memory_mb": 64}, "memory_mb=64 must be at least 128"),
    ],
)
def test_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FormulaPool(**kwargs)
