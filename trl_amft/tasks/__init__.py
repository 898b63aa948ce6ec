"""Benchmarks by name. A recipe names its task and the task's arguments; everything else follows from here."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

from .countdown import load_countdown
from .general_points import load_general_points
from .maths import load_maths
from .prefixes import load_prefixes
from .task import Task
from .twenty_questions import load_twenty_questions
from .virl import load_virl


TASKS: dict[str, Callable[..., Task]] = {
    "countdown": load_countdown,
    "general_points": load_general_points,
    "maths": load_maths,
    "prefixes": load_prefixes,
    "twenty_questions": load_twenty_questions,
    "virl": load_virl,
}

# What makes a task small, and independent of the network.
SMOKE_KWARGS: dict[str, dict[str, Any]] = {
    "countdown": {"train_problems": 16, "held_out_problems": 4},
    "general_points": {"train_hands": 16, "held_out_hands": 4},
    "maths": {"dataset": "synthetic", "train_problems": 16, "held_out_problems": 4},
    "prefixes": {"dataset": "synthetic", "train_problems": 16, "held_out_problems": 1},
    "twenty_questions": {"dialogues": None, "scripted": 16},
    "virl": {"routes": "synthetic", "imagery": None, "seed": 5, "train_routes": 4, "held_out_routes": 1},
}

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def load_task(name: str, **kwargs) -> Task:
    """
    Load a benchmark by its name.

    Args:
        name (`str`):
            A key of `TASKS`.
        **kwargs:
            Arguments of that benchmark's loader, for example those of [`load_countdown`].

    Returns:
        `Task`: the data sets and reward functions of the benchmark.
    """
    if name not in TASKS:
        raise ValueError(f"task={name!r} is not known; choose one of: {', '.join(sorted(TASKS))}")
    loader = TASKS[name]
    known = inspect.signature(loader, eval_str=True).parameters
    for key, value in kwargs.items():
        if key not in known:
            raise ValueError(
                f"task argument {key}={value!r} is not known to the task {name!r}; choose from: {', '.join(known)}"
            )
        kinds = get_args(known[key].annotation) or (known[key].annotation,)
        # A whole number is a number, a truth value is neither.
        if type(value) not in kinds and not (type(value) is int and float in kinds):
            raise ValueError(f"{key}={value!r} must be {' or '.join(KINDS[kind] for kind in kinds)}")
    return loader(**kwargs)


__all__ = [
    "SMOKE_KWARGS",
    "TASKS",
    "Task",
    "load_countdown",
    "load_general_points",
    "load_maths",
    "load_prefixes",
    "load_task",
    "load_twenty_questions",
    "load_virl",
]
