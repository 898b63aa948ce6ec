"""Replays the recorded trajectory of μ of an earlier run."""

import json
from pathlib import Path

from .policy import MixingPolicy


class ReplayPolicy(MixingPolicy):
    """
    μ of step t is what an earlier run logged as `amft/mu` for it; between logged steps the next logged value holds,
    after the last one the last.

    `mixing_policy_kwargs`:
        path (`str`):
            A checkpoint's `trainer_state.json`, or a JSON list of logs with `step` and `amft/mu`. Log with
            `logging_steps=1` for an exact replay: a logged value is a mean over the steps since the one before.
    """

    keywords = {"path": None}

    def __init__(self, args):
        super().__init__(args)
        path = (args.mixing_policy_kwargs or {}).get("path")
        if not isinstance(path, str | Path) or not Path(path).is_file():
            raise ValueError(
                f"mixing_policy_kwargs: `path` is {path!r}, which is no file; mixing_policy='replay' needs the "
                "trainer_state.json (or log_history.json) of the run to replay"
            )
        try:
            content = json.loads(Path(path).read_text())
            logs = content["log_history"] if isinstance(content, dict) else content
            self._trajectory = sorted((log["step"], float(log["amft/mu"])) for log in logs if "amft/mu" in log)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"mixing_policy_kwargs: `path` {path!r} holds no list of logs ({error})") from None
        if not self._trajectory:
            raise ValueError(f"mixing_policy_kwargs: `path` {path!r} has no entry `amft/mu` to replay")
        for step, weight in self._trajectory:
            if not 0.0 <= weight <= 1.0:
                raise ValueError(
                    f"mixing_policy_kwargs: `path` {path!r} has amft/mu={weight} at step {step}; give weights in "
                    "[0, 1]"
                )

    def known_weight(self, step: int) -> float:
        for logged_step, weight in self._trajectory:
            if logged_step > step:
                return weight
        return self._trajectory[-1][1]
