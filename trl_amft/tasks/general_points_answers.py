"""
Verifier of General Points: reads an answer, strictly or leniently, and judges it in exact fractions.

The formula is tokenized and worked out with two stacks; nothing is evaluated as code. The longest formula that is read
has 200 characters.
"""

import re
from enum import Enum
from fractions import Fraction
from typing import Any

from .general_points_solver import PRECEDENCE, Expression, join
from .json_answers import completion_text, read_object


class Verdict(Enum):
    """What an answer is. The first of these faults that is found counts."""

    ILLEGAL = "illegal"  # no object, no formula, or something in it that is not a formula
    MISREAD = "misread"  # its cards are not those of the hand
    WRONG_NUMBERS = "wrong_numbers"  # a number is left out, used twice, or not of the hand
    WRONG_VALUE = "wrong_value"  # it does not reach the target, or states something else after '='
    CORRECT = "correct"


# Rewards of the original code, which are not summed here.
ORIGINAL_REWARDS = {
    Verdict.CORRECT: 5.0,
    Verdict.WRONG_VALUE: -1.0,
    Verdict.MISREAD: -1.5,
    Verdict.WRONG_NUMBERS: -2.0,
    Verdict.ILLEGAL: -3.0,
}
REWARD_SCALES = ("unit", "original")

KEYS = ("cards", "number", "formula")
LONGEST_FORMULA = 200
_TOKEN = re.compile(r"\s*(?:(0|[1-9][0-9]{0,3})|([-+*/()]))", re.ASCII)
_STATED = re.compile(r"\s*(?:0|[1-9][0-9]{0,3})\s*", re.ASCII)
_LENIENT_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})


def judge(text: str, cards: list[str], numbers: list[int], target: int, lenient: bool = True) -> Verdict:
    """
    Judge an answer.

    Args:
        text (`str`):
            A completion, of any length and content.
        cards (`list[str]`):
            Ranks of the hand.
        numbers (`list[int]`):
            What they count.
        target (`int`):
            What to reach.
        lenient (`bool`, *optional*, defaults to `True`):
            Read the last object of the text, with trailing commas, single quotes, `×`, `÷` and `−`, of which only the
            formula is required, with or without `=`. Strictly, the text is one JSON object with the three keys and
            no other, and the formula has `=` and the target at its end.

    Returns:
        [`Verdict`]
    """
    answer = read_object(text, lenient)
    if answer is None or not isinstance(answer.get("formula"), str):
        return Verdict.ILLEGAL
    if not lenient and set(answer) != set(KEYS):
        return Verdict.ILLEGAL
    formula = answer["formula"].translate(_LENIENT_SIGNS) if lenient else answer["formula"]
    left, equals, stated = formula.partition("=")
    if len(formula) > LONGEST_FORMULA or bool(equals) != bool(_STATED.fullmatch(stated)) or not (equals or lenient):
        return Verdict.ILLEGAL
    parsed = parse_formula(left)
    if parsed is None:
        return Verdict.ILLEGAL
    value, used = parsed
    if "cards" in answer and _as_read(answer["cards"]) != sorted(cards):
        return Verdict.MISREAD
    if "number" in answer and _as_read(answer["number"]) != sorted(map(str, numbers)):
        return Verdict.WRONG_NUMBERS
    if sorted(used) != sorted(numbers):
        return Verdict.WRONG_NUMBERS
    if value != target or (equals and int(stated) != target):
        return Verdict.WRONG_VALUE
    return Verdict.CORRECT


def _as_read(items: Any) -> list[str] | None:
    """Cards or numbers of an answer as text, whatever their order; `None` for anything else."""
    if not isinstance(items, list) or not all(type(item) in (str, int) for item in items):
        return None
    return sorted(str(item).strip().upper() for item in items)


def parse_formula(text: str) -> tuple[Fraction, list[int]] | None:
    """
    Work out a formula of whole numbers, `+ - * /` and brackets.

    Args:
        text (`str`):
            The formula. There is no sign before a number, and no operator is left out.

    Returns:
        `tuple[Fraction, list[int]]`: its value and the numbers in it; `None` if it is no formula, or divides by zero.
    """
    values: list[Expression] = []
    operators: list[str] = []
    used: list[int] = []

    def apply(lowest: int) -> bool:
        """Apply what binds at least as tightly; whether no division by zero was met."""
        while operators and PRECEDENCE.get(operators[-1], 0) >= lowest:
            right, left = values.pop(), values.pop()
            result = join(operators.pop(), left, right)
            if result is None:
                return False
            values.append(result)
        return True

    position, operand_next = 0, True
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        number, sign = match.groups()
        if (number is not None or sign == "(") != operand_next:
            return None
        if number is not None:
            used.append(int(number))
            values.append(Expression(Fraction(int(number))))
            operand_next = False
        elif sign == "(":
            operators.append(sign)
        elif sign == ")":
            if not apply(1) or not operators:
                return None
            operators.pop()
        else:
            if not apply(PRECEDENCE[sign]):
                return None
            operators.append(sign)
            operand_next = True
    if operand_next or not apply(1) or operators:
        return None
    return values[0].value, used


def general_points_reward(
    completions: list,
    cards: list[list[str]],
    numbers: list[list[int]],
    target: list[int],
    reward_scale: str = "unit",
    format_credit: float = 0.0,
    lenient: bool = True,
    **kwargs,
) -> list[float]:
    """
    Reward of an answer, by its verdict.

    Args:
        completions (`list`):
            One completion per prompt, plain or conversational.
        cards (`list[list[str]]`), numbers (`list[list[int]]`), target (`list[int]`):
            The hands, from the dataset's columns.
        reward_scale (`str`, *optional*, defaults to `"unit"`):
            `"unit"`: 1 if correct, else 0. `"original"`: `ORIGINAL_REWARDS`, from −3 to 5.
        format_credit (`float`, *optional*, defaults to `0.0`):
            On the unit scale, reward of an incorrect answer whose formula can be worked out.
        lenient (`bool`, *optional*, defaults to `True`):
            See [`judge`].

    Returns:
        `list[float]`
    """
    rewards = []
    for completion, hand, values, goal in zip(completions, cards, numbers, target, strict=True):
        verdict = judge(completion_text(completion), hand, values, goal, lenient)
        if reward_scale == "original":
            rewards.append(ORIGINAL_REWARDS[verdict])
        elif verdict is Verdict.CORRECT:
            rewards.append(1.0)
        else:
            rewards.append(0.0 if verdict is Verdict.ILLEGAL else format_credit)
    return rewards
