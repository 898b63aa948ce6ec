"""The random generators of this process: Python's, NumPy's, torch's on the CPU and on this process's own device."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """
    Returns:
        `dict[str, Any]`: what [`set_random_state`] needs to bring the generators back here.
    """
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    if torch.accelerator.is_available():
        state["device"] = torch.get_device_module().get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """
    Args:
        state (`dict[str, Any]`):
            From [`random_state`], taken in this process.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if "device" in state:
        torch.get_device_module().set_rng_state(state["device"])
