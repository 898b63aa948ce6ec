"""How fast a run goes and how long it will take: steps of the warm-up cost less than those that roll out."""

from collections import defaultdict, deque
from typing import Any


RECENT = 20
WARM_UP, IMITATING = "warm-up", "imitating"


class Pace:
    """
    Counts the steps of a run by what they do.

    Args:
        max_steps (`int`):
            Steps of the run.
        warmup_steps (`int`):
            Those of the supervised warm-up.
        rollouts (`float`):
            Completions sampled in a step that has rollouts, over all processes.
        tokens (`int`, *optional*, defaults to `0`):
            Tokens of rollouts before the first step; a resumed run begins with those of the whole run.
    """

    def __init__(self, max_steps: int, warmup_steps: int, rollouts: float, tokens: int = 0):
        self.max_steps = max_steps
        self._warmup_steps = warmup_steps
        self._rollouts = rollouts
        self._recent: dict[bool, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._tokens = float(tokens)
        self._since_log: list[tuple[str, float]] = []

    def add(self, step: int, phase: str, seconds: float) -> None:
        """
        Args:
            step (`int`):
                Steps done, this one included.
            phase (`str`):
                What the step did.
            seconds (`float`):
                What it took.
        """
        self._recent[step <= self._warmup_steps].append(seconds)
        self._since_log.append((phase, seconds))

    def speed(self, logs: dict[str, Any]) -> dict[str, float]:
        """
        Rollouts and tokens per second of training since the log before.

        Args:
            logs (`dict[str, Any]`):
                The log; `num_tokens` (prompts and completions so far) and `demonstrations/tokens` (per step) are read.

        Returns:
            `dict[str, float]`: empty where no step was taken.
        """
        steps, self._since_log = self._since_log, []
        seconds = sum(taken for _, taken in steps)
        if not steps or seconds <= 0.0:
            return {}
        sampling = sum(phase not in (WARM_UP, IMITATING) for phase, _ in steps)
        tokens = (logs.get("demonstrations/tokens") or 0.0) * len(steps)
        if logs.get("num_tokens") is not None:
            tokens += logs["num_tokens"] - self._tokens
            self._tokens = logs["num_tokens"]
        speed = {"rollouts": sampling * self._rollouts / seconds} if sampling else {}
        return speed | ({"tokens": tokens / seconds} if tokens else {})

    def eta(self, step: int) -> str:
        """
        Args:
            step (`int`):
                Steps done.

        Returns:
            `str`: hours, minutes and seconds that the remaining steps take, without evaluations; with `>` before it
            while no step after the warm-up has been seen.
        """
        warm_up = max(self._warmup_steps - step, 0)
        rest = max(self.max_steps - max(step, self._warmup_steps), 0)
        seconds, unknown = 0.0, False
        for count, recent in ((warm_up, self._recent[True]), (rest, self._recent[False])):
            if count and not recent:
                unknown = True
            elif count:
                seconds += count * sum(recent) / len(recent)
        if unknown and not seconds:
            return "?"
        minutes, left = divmod(round(seconds), 60)
        return f"{'> ' if unknown else ''}{minutes // 60}:{minutes % 60:02d}:{left:02d}"
