"""Reward functions by name: those of `trl.rewards`, and any function that can be imported."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trl.rewards
from trl.trainer.utils import is_async_callable

from ..data.domains import DomainReward, LoggedByDomain
from ..rewards import ExplorationReward
from .usage import UsageError, suggest


def load_reward(path: str, field: str = "reward_funcs") -> Callable:
    """
    Find a reward function.

    Args:
        path (`str`):
            `"package.module:function"`, looked up in the working directory first, or the name of a reward of
            `trl.rewards` that takes no arguments of its own.
        field (`str`, *optional*, defaults to `"reward_funcs"`):
            Where it is named.

    Returns:
        `Callable`: the function, with TRL's signature.
    """
    if not isinstance(path, str):
        raise UsageError(f"{field} has {path!r}, which is no text; give 'package.module:function' or a reward of TRL")
    module_name, colon, name = path.partition(":")
    if not colon:
        known = [name for name in dir(trl.rewards) if name.endswith("_reward") and not name.startswith("get_")]
        if path not in known and (Path(f"{path.replace('.', '/')}.py").is_file() or "." in path):
            raise UsageError(f"{field} has {path!r}, which names no function; write {path + ':FUNCTION'!r}")
        if path not in known:
            raise UsageError(
                f"{field} has {path!r}, which is neither 'package.module:function' nor a reward of TRL; "
                f"{suggest(path, known)}"
            )
        return getattr(trl.rewards, path)

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    # A module is a program, and its name may be none.
    except Exception as error:
        raise UsageError(
            f"{field} has {path!r}, but {module_name!r} cannot be imported ({error}); give a module of the "
            "working directory or of an installed package"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise UsageError(f"{field} has {path!r}, but {module_name!r} has no {name!r}; {suggest(name, public)}")
    return function


def with_exploration(rewards: list[Callable], correctness: list[Callable], options: dict[str, Any]) -> list[Callable]:
    """
    Put the exploration reward in the place of correctness.

    Args:
        rewards (`list[Callable]`):
            Rewards of the training.
        correctness (`list[Callable]`):
            Those among them that make up the accuracy.
        options (`dict[str, Any]`):
            Arguments of [`~trl_amft.rewards.ExplorationReward`], its judge as an import path.

    Returns:
        `list[Callable]`
    """
    known = [name for name in inspect.signature(ExplorationReward).parameters if name != "correctness"]
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"exploration_reward has no argument {name}={value!r}; {suggest(name, known)}")
    if len(correctness) != 1:
        raise UsageError(f"exploration_reward needs one reward that says what is right, found {len(correctness)}")
    if options.get("judge") is not None:
        options = {**options, "judge": load_reward(options["judge"])}
    try:
        around = ExplorationReward(correctness[0], **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"exploration_reward: {error}") from None
    return [around if reward is correctness[0] else reward for reward in rewards]


def load_domain_rewards(paths: dict[str, list[str]], weights: dict[str, float]) -> list[Callable]:
    """
    Rewards that apply to one domain each.

    Args:
        paths (`dict[str, list[str]]`):
            For each domain what [`load_reward`] takes.
        weights (`dict[str, float]`):
            Domains of the mixture; empty where there is none.

    Returns:
        `list[Callable]`: [`~trl_amft.data.domains.DomainReward`]s.
    """
    found: list[Callable] = []
    for domain, names in paths.items():
        if weights and domain not in weights:
            raise UsageError(f"domain_rewards has no domain {domain!r} in domain_weights; {suggest(domain, weights)}")
        if not isinstance(names, list):
            raise UsageError(f"domain_rewards: {domain}={names!r} must be a list of rewards")
        for name in names:
            try:
                found.append(DomainReward(domain, load_reward(name)))
            except ValueError as error:
                raise UsageError(error) from None
    return found


def log_by_domain(rewards: list[Callable], weights: dict[str, float]) -> list[Callable]:
    """
    Rewards for all rows, with their means by domain in the log.

    Args:
        rewards (`list[Callable]`):
            Reward functions; asynchronous ones stay as they are.
        weights (`dict[str, float]`):
            Domains of the mixture; empty where there is none, and then nothing changes.

    Returns:
        `list[Callable]`
    """
    names = [name for name, weight in weights.items() if weight]
    return [reward if not names or is_async_callable(reward) else LoggedByDomain(names, reward) for reward in rewards]
