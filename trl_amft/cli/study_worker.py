"""One training run of a study, in a process of its own."""

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..compat import as_mapping
from ..evaluation import evaluate_held_out
from ..tasks import load_task
from .arguments import parse_recipe
from .rewards import load_reward
from .train import main as train


OUTPUT_FILE = "output.txt"
SCORES_FILE = "scores.json"


def own_device(worker: int) -> dict[str, str]:
    """
    Which GPU a worker sees, because TRL trains on one per process.

    Args:
        worker (`int`):
            Its number, from 0 on.

    Returns:
        `dict[str, str]`: environment of the worker; empty where there are not several GPUs.
    """
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = given.split(",") if given else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": devices[worker % count].strip()}


def work(arguments: list[str], folder: str, scored_by: dict[str, str], environment: dict[str, str]) -> None:
    """
    Train, then score the last model by further rewards. What is printed goes to a file in the run's folder; the exit
    code is that of the training command.

    Args:
        arguments (`list[str]`):
            Arguments of the training command.
        folder (`str`):
            Output folder of the run.
        scored_by (`dict[str, str]`):
            Further rewards as import paths, by name.
        environment (`dict[str, str]`):
            From [`own_device`].
    """
    # Before CUDA begins, which reads it once.
    os.environ.update(environment)
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    torch.set_num_threads(1)
    Path(folder).mkdir(parents=True, exist_ok=True)
    # The descriptors and not only Python's names for them: libraries hold the old ones.
    output = os.open(Path(folder) / OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    code: str | int | None = 1
    try:
        code = train(arguments)
        scores = {name: score(arguments, folder, path) for name, path in scored_by.items()}
        # Beside the clock, because that also counts what else the machine does.
        found = {"scores": scores, "cpu_seconds": round(time.process_time(), 1)}
        (Path(folder) / SCORES_FILE).write_text(json.dumps(found), encoding="utf-8")
    except SystemExit as leaving:
        code = leaving.code
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _end_with_the_study() -> None:
    """A run that outlives a killed study would share its folder with the run that the next study starts there."""
    study = multiprocessing.parent_process()
    assert study is not None, "a worker is a process of its own"
    study.join()
    os._exit(1)


def score(arguments: list[str], folder: str, reward: str) -> float:
    """
    Held-out accuracy of the last model by another reward than that of its training.

    Args:
        arguments (`list[str]`):
            Arguments of the training command.
        folder (`str`):
            Where the model was saved.
        reward (`str`):
            Import path of the reward.

    Returns:
        `float`
    """
    recipe = parse_recipe(arguments)
    assert recipe.run.task is not None, "studies are made of tasks"
    result = evaluate_held_out(
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        load_task(recipe.run.task, **as_mapping(recipe.run.task_kwargs)).held_out_dataset,
        [load_reward(reward)],
        num_samples=recipe.run.held_out_samples,
        max_completion_length=recipe.training.max_completion_length,
        temperature=recipe.training.temperature,
        batch_size=recipe.training.per_device_eval_batch_size,
    )
    return result.accuracy
