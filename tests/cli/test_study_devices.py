"""Which GPU each run of a study has where there are several."""

import multiprocessing
import os

import pytest
import torch
from study_files import ROOT, TINY

from trl_amft.cli import compare, study_worker
from trl_amft.cli.study import StudyRun, read_study
from trl_amft.cli.study_worker import OUTPUT_FILE, own_device, work


@pytest.mark.parametrize(
    ("count", "given", "expected"),
    [
        (3, None, ["0", "1", "2", "0", "1"]),
        (2, "5, 3", ["5", "3", "5"]),
        (2, "GPU-a,GPU-b", ["GPU-a", "GPU-b", "GPU-a"]),
        # The second one does not exist.
        (1, "5,64", [None, None]),
        (1, None, [None, None]),
        (0, None, [None, None]),
        (0, "", [None, None]),
    ],
)
def test_devices_in_turn(monkeypatch, count, given, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    found = [own_device(worker) for worker in range(len(expected))]
    assert found == [{} if device is None else {"CUDA_VISIBLE_DEVICES": device} for device in expected]


def test_a_worker_knows_its_device_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(
        study_worker, "train", lambda arguments: 0 * os.write(1, os.environ["CUDA_VISIBLE_DEVICES"].encode())
    )
    arguments = ([], str(tmp_path), {}, {"CUDA_VISIBLE_DEVICES": "3"})
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0 and (tmp_path / OUTPUT_FILE).read_text() == "3"


def test_runs_at_the_same_time_have_different_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runner = compare.StudyRunner(read_study(TINY), tmp_path, tmp_path / "runs.jsonl")
    alive, numbers = [], []

    class Process:
        exitcode = 0

        def __init__(self, worker):
            # Every other one ends later.
            self.worker, self.left = worker, 1 + 2 * (len(numbers) % 2)
            numbers.append(worker)
            alive.append(worker)
            assert len(set(alive)) == len(alive)

        def is_alive(self):
            self.left -= 1
            return self.left > 0

        def join(self):
            alive.remove(self.worker)

    monkeypatch.setattr(runner, "_start", lambda run, worker: Process(worker))
    monkeypatch.setattr(runner, "_finish", lambda run, code, seconds: None)
    monkeypatch.setattr(compare, "POLL_SECONDS", 0.0)
    assert runner.run([StudyRun("a", "right", 1e-3, seed, {}) for seed in range(6)], 2) == 0
    assert len(numbers) == 6 and set(numbers) == {0, 1} and not alive
