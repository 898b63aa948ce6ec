"""Problems with worked thoughts, a sampler whose answers are known, and rewards of all kinds."""

import json
from collections.abc import Callable

from trl_amft.evaluation.samplers import Sample


THOUGHT = "one\n\ntwo\n\nWait, early\n\nWait, three\n\nfour\n\nfive\n\nAlternatively six\n\nseven"


class KnownSampler:
    """Right as often as there are episodes in the prefix, of four answers."""

    sampling = None

    def __init__(self, fail_after=None):
        self.left = fail_after

    def sample(self, prompts, count, seed):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        prompts = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
        right = [prompt.count("Wait, three") + prompt.count("Alternatively") + 1 for prompt in prompts]
        return [[Sample("right" if n < good else "wrong", [0], False) for n in range(count)] for good in right]


def right_reward(completions, **columns):
    return [float(text.endswith("right")) for text in completions]


def bonus_reward(completions, **columns):
    """Does not apply to wrong answers."""
    return [1.0 if text.endswith("right") else None for text in completions]


def chat_reward(completions, **columns):
    return [float(completion[-1]["content"].endswith("right")) for completion in completions]


def answer_reward(completions, **columns):
    return [float(text == answer) for text, answer in zip(completions, columns["solution"], strict=True)]


def broken_reward(completions, **columns):
    return [float("nan")] * len(completions)


async def slow_reward(completions, **columns):
    return [1.0] * len(completions)


def length_reward(completions, completion_ids, **columns):
    return [len(ids) / 8 for ids in completion_ids]


def write_problems(path, count=40, change: Callable = dict):
    """Every third solution is wrong, every tenth missing."""
    rows = [
        {
            "prompt": f"{n}?",
            "demonstration": None if n % 10 == 9 else f"{THOUGHT}\n\n{'wrong' if n % 3 == 2 else 'right'}",
            "answer": n,
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
