"""
Answers to Countdown: solver, strict parser and rewards, in exact integer arithmetic.

An answer is two worked steps, `"3+4=7,7*5=35"`; the second uses the result of the first and the number that is left.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import permutations
from typing import NamedTuple


LARGEST_TARGET = 40

# Bounded repetitions: the longest text that can match has 35 characters, so hostile input is refused after as many.
_INTEGER = r"(0|-?[1-9][0-9]{0,3})"
_STEP = rf"{_INTEGER}([-+*]){_INTEGER}={_INTEGER}"
_ANSWER = re.compile(rf"{_STEP},{_STEP}")


class Step(NamedTuple):
    """One written step, `left operator right = result`, whether or not it is true."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.right}={self.result}"

    @property
    def is_true(self) -> bool:
        return calculate(self.left, self.operator, self.right) == self.result


def calculate(left: int, operator: str, right: int) -> int:
    """Exact value of `left operator right`, the operator being one of `+ - *`."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right


@cache
def solve(numbers: tuple[int, int, int]) -> dict[int, list[tuple[Step, Step]]]:
    """
    Every target that three numbers reach, with its worked solutions.

    Only solutions whose first result is positive are listed. None of the targets needs another one: a negative first
    result can be turned round (`c+(a-b)` is `c-(b-a)`), and what `0+c` reaches, `(a+c)-a` reaches too. Of the two
    spellings of a sum or a product only one is listed, larger operand first in the first step, first result first in
    the second, so that a demonstration has one way to write a thought.

    Args:
        numbers (`tuple[int, int, int]`):
            The numbers, in any order.

    Returns:
        `dict[int, list[tuple[Step, Step]]]`: target (1 to 40) to its solutions, in a fixed order.
    """
    solutions: dict[int, list[tuple[Step, Step]]] = {}
    for a, b, c in sorted(set(permutations(numbers))):
        if a < b:
            continue
        for first_operator in "+*-":
            result = calculate(a, first_operator, b)
            if result <= 0:
                continue
            first = Step(a, first_operator, b, result)
            for left, operator, right in ((result, "+", c), (result, "*", c), (result, "-", c), (c, "-", result)):
                target = calculate(left, operator, right)
                if 1 <= target <= LARGEST_TARGET:
                    solutions.setdefault(target, []).append((first, Step(left, operator, right, target)))
    return solutions


def write_answer(steps: tuple[Step, Step]) -> str:
    """Text of a two-step answer, `"3+4=7,7*5=35"`."""
    return ",".join(map(str, steps))


def parse_answer(text: str) -> tuple[Step, Step] | None:
    """
    Read the two steps of an answer. The text must be the two steps and nothing else: no spaces, ASCII digits, no
    leading zeros, at most four digits a number. Negative numbers are written with a minus sign, also as operands
    (`"3-5=-2,-2+8=6"`).

    Args:
        text (`str`):
            A completion, of any length and content.

    Returns:
        `tuple[Step, Step]` or `None` if the text does not have that form.
    """
    match = _ANSWER.fullmatch(text)
    if match is None:
        return None
    fields = match.groups()
    first, second = (
        Step(int(left), operator, int(right), int(result))
        for left, operator, right, result in (fields[:4], fields[4:])
    )
    return first, second


def uses_numbers_once(steps: tuple[Step, Step], numbers: list[int]) -> bool:
    """Whether the second step continues from the stated result of the first, and both together use `numbers` once."""
    first, second = steps
    left_over = []
    if second.left == first.result:
        left_over.append(second.right)
    if second.right == first.result:
        left_over.append(second.left)
    return any(sorted((first.left, first.right, other)) == sorted(numbers) for other in left_over)


def steps_reward(
    completions: list[str], numbers: list[list[int]], target: list[int], format_credit: float = 0.0, **kwargs
) -> list[float]:
    """
    Reward for a correct worked answer: both steps true, every number used once, the target reached.

    Args:
        completions (`list[str]`):
            One completion per prompt.
        numbers (`list[list[int]]`), target (`list[int]`):
            The problems, from the dataset's columns.
        format_credit (`float`, *optional*, defaults to `0.0`):
            Reward of an answer that has the form of two steps and is not correct.

    Returns:
        `list[float]`: 1.0 if correct, `format_credit` if only the form is right, else 0.0.
    """
    rewards = []
    for text, given, goal in zip(completions, numbers, target, strict=True):
        steps = parse_answer(text)
        if steps is None:
            rewards.append(0.0)
        elif uses_numbers_once(steps, given) and steps[1].result == goal and all(step.is_true for step in steps):
            rewards.append(1.0)
        else:
            rewards.append(format_credit)
    return rewards


def outcome_reward(
    completions: list[str], numbers: list[list[int]], target: list[int], format_credit: float = 0.0, **kwargs
) -> list[float]:
    """
    Reward that reads only the last value and the numbers used: like [`steps_reward`], but the arithmetic of the steps
    is not checked. It accepts what a verifier of final answers accepts, `"wrong_steps"` demonstrations included.
    """
    rewards = []
    for text, given, goal in zip(completions, numbers, target, strict=True):
        steps = parse_answer(text)
        if steps is None:
            rewards.append(0.0)
        elif uses_numbers_once(steps, given) and steps[1].result == goal:
            rewards.append(1.0)
        else:
            rewards.append(format_credit)
    return rewards


REWARDS: dict[str, Callable] = {"steps": steps_reward, "outcome": outcome_reward}
