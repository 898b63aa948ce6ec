"""
Demonstrations of General Points: a solution of the solver in the form of an answer, or one that only looks like it.

A wrong demonstration uses every number once and states the target, which its formula does not reach.
"""

import json
import random
from fractions import Fraction
from functools import cache

from .general_points_solver import Expression, random_expression, solve


def choose_expression(numbers: tuple[int, ...], target: int, correct: bool, rng: random.Random) -> Expression:
    """
    What a demonstration shows.

    Args:
        numbers (`tuple[int, ...]`):
            The numbers of a hand that can be solved.
        target (`int`):
            What to reach.
        correct (`bool`):
            Whether it is reached.
        rng (`random.Random`):
            Source of the choice.

    Returns:
        `Expression`: a solution, if possible one whose intermediate results are whole and not negative; or an
        expression of all numbers with another value, and with such results.
    """
    if correct:
        return rng.choice(_shown_solutions(tuple(sorted(numbers)), target))
    while True:
        wrong = random_expression(numbers, rng)
        if wrong.value != target and _is_plain(wrong):
            return wrong


@cache
def _shown_solutions(numbers: tuple[int, ...], target: int) -> list[Expression]:
    """Solutions of sorted numbers that a demonstration may show. The orders of a hand share them."""
    found = solve(numbers, target)
    return [solution for solution in found if _is_plain(solution)] or found


def _is_plain(expression: Expression) -> bool:
    return all(step.value >= 0 and step.value.denominator == 1 for step in expression.operations())


def work_out(expression: Expression, numbers: tuple[int, ...], target: int, read_off: bool = False) -> str:
    """
    The operations one by one with the numbers that are left after each, `"10-3=7[3 8 7],7*3=21[8 21],..."`.

    Args:
        expression (`Expression`):
            What to work out.
        numbers (`tuple[int, ...]`):
            The numbers of the hand, in its order.
        target (`int`):
            What the last operation states, true or not.
        read_off (`bool`, *optional*, defaults to `False`):
            Begin with the numbers, `"[10 3 3 8],..."`.

    Returns:
        `str`: fractions as operands in brackets, results in lowest terms.
    """

    def written(value: Fraction) -> str:
        return str(value) if value.denominator == 1 and value >= 0 else f"({value})"

    left = list(map(Fraction, numbers))
    lines = [f"[{' '.join(map(str, numbers))}]"] if read_off else []
    for step in expression.operations():
        before, after = step.operands
        left.remove(before.value)
        left.remove(after.value)
        left.append(step.value)
        operation = f"{written(before.value)}{step.operator}{written(after.value)}"
        lines.append(
            f"{operation}={step.value}[{' '.join(map(written, left))}]" if left[1:] else f"{operation}={target}"
        )
    return ",".join(lines)


def write_answer(
    expression: Expression, cards: list[str], numbers: list[int], target: int, keys: tuple[str, ...]
) -> str:
    """
    The JSON object of an answer.

    Args:
        expression (`Expression`):
            Its formula.
        cards (`list[str]`), numbers (`list[int]`):
            The hand.
        target (`int`):
            What stands after `=`.
        keys (`tuple[str, ...]`):
            What the object holds: all of `"cards"`, `"number"` and `"formula"`, or, without spaces, some of them.

    Returns:
        `str`
    """
    answer = {"cards": cards, "number": numbers, "formula": f"{expression}={target}"}
    if len(keys) == len(answer):
        return json.dumps(answer)
    return json.dumps({key: answer[key] for key in keys}, separators=(",", ":"))
