"""
Solver of General Points: every way to reach a target with + - * /, each number used exactly once, in exact fractions.

Two parts of the hand are joined by one operation. What the parts can reach is kept, and of the last operation only
the operand that is missing for the target is looked up, so that a hand takes well under a millisecond.
"""

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple


PRECEDENCE: dict[str | None, int] = {"+": 1, "-": 1, "*": 2, "/": 2}


class Expression(NamedTuple):
    """A number of the hand (no operator), or two expressions and their operator, with the exact value."""

    value: Fraction
    operator: str | None = None
    left: "Expression | None" = None
    right: "Expression | None" = None

    @property
    def operands(self) -> tuple["Expression", "Expression"]:
        """What stands before and after the operator."""
        assert self.left is not None and self.right is not None, "a number of the hand has none"
        return self.left, self.right

    def __str__(self) -> str:
        if self.operator is None:
            return str(self.value)
        own = PRECEDENCE[self.operator]
        before, after = self.operands
        left, right = str(before), str(after)
        if PRECEDENCE.get(before.operator, 3) < own:
            left = f"({left})"
        # a-(b+c) and a/(b*c) need their brackets; a+(b-c) and a*(b/c) have the same value without.
        inner = PRECEDENCE.get(after.operator, 3)
        if inner < own or (inner == own and self.operator in "-/"):
            right = f"({right})"
        return f"{left}{self.operator}{right}"

    def operations(self) -> Iterator["Expression"]:
        """The operations in the order in which they are worked out."""
        if self.operator is not None:
            for operand in self.operands:
                yield from operand.operations()
            yield self


def solve(numbers: tuple[int, ...], target: int) -> list[Expression]:
    """
    All solutions. A sum or product is listed with one order of its two operands.

    Args:
        numbers (`tuple[int, ...]`):
            The numbers, at least two, in any order.
        target (`int`):
            What to reach, at least 1.

    Returns:
        `list[Expression]`: solutions that are written differently, in a fixed order; empty if there is none.
    """
    return list({str(solution): solution for solution in _solutions(tuple(sorted(numbers)), target)}.values())


@cache
def is_solvable(numbers: tuple[int, ...], target: int) -> bool:
    """Whether sorted numbers reach the target at all."""
    return any(
        y in _values(others)
        for some, others in _splits(numbers)
        for x in _values(some)
        for _, y, _ in _missing(x, Fraction(target))
    )


def random_expression(numbers: tuple[int, ...], rng: random.Random) -> Expression:
    """An expression that uses the numbers exactly once, whatever its value; no division by zero in it."""
    parts = [Expression(Fraction(number)) for number in numbers]
    while len(parts) > 1:
        rng.shuffle(parts)
        joined = join(rng.choice("+-*/"), parts[0], parts[1])
        if joined is not None:
            parts = [joined, *parts[2:]]
    return parts[0]


def _solutions(numbers: tuple[int, ...], target: int) -> Iterator[Expression]:
    goal = Fraction(target)
    for some, others in _splits(numbers):
        there = _reach(others)
        for x, left_expressions in _reach(some).items():
            for operator, y, swapped in _missing(x, goal):
                for right in there.get(y, ()):
                    for left in left_expressions:
                        first, second = (right, left) if swapped else (left, right)
                        yield Expression(goal, operator, first, second)


def _missing(x: Fraction, goal: Fraction) -> Iterator[tuple[str, Fraction, bool]]:
    """What y must be for x and y to give the goal, by operator, and whether y comes first."""
    yield "+", goal - x, False
    yield "-", x - goal, False
    yield "-", x + goal, True
    if x:
        yield "*", goal / x, False
        yield "/", x / goal, False
        yield "/", x * goal, True


@cache
def _values(numbers: tuple[int, ...]) -> frozenset[Fraction]:
    """Values of sorted numbers, without the expressions, which take most of the time."""
    if len(numbers) == 1:
        return frozenset({Fraction(numbers[0])})
    found = set()
    for some, others in _splits(numbers):
        for x in _values(some):
            for y in _values(others):
                found |= {x + y, x - y, y - x, x * y}
                found |= {x / y} if y else set()
                found |= {y / x} if x else set()
    return frozenset(found)


@cache
def _reach(numbers: tuple[int, ...]) -> dict[Fraction, tuple[Expression, ...]]:
    """Values of sorted numbers with their expressions."""
    if len(numbers) == 1:
        value = Fraction(numbers[0])
        return {value: (Expression(value),)}
    found: dict[Fraction, dict[str, Expression]] = {}
    for some, others in _splits(numbers):
        pairs = [
            (left, right)
            for left in itertools.chain(*_reach(some).values())
            for right in itertools.chain(*_reach(others).values())
        ]
        swapped = [(right, left) for left, right in pairs]
        for operators, ordered in (("+-*/", pairs), ("-/", swapped)):
            for operator, (left, right) in itertools.product(operators, ordered):
                expression = join(operator, left, right)
                if expression is not None:
                    found.setdefault(expression.value, {})[str(expression)] = expression
    return {value: tuple(by_text.values()) for value, by_text in found.items()}


def join(operator: str, left: Expression, right: Expression) -> Expression | None:
    """The operation on two expressions; `None` for a division by zero."""
    if operator == "+":
        value = left.value + right.value
    elif operator == "-":
        value = left.value - right.value
    elif operator == "*":
        value = left.value * right.value
    elif right.value:
        value = left.value / right.value
    else:
        return None
    return Expression(value, operator, left, right)


def _splits(numbers: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Both parts of sorted numbers, the smaller first, neither empty; each division once."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], None] = {}
    first, rest = numbers[0], numbers[1:]
    for chosen in range(2 ** len(rest) - 1):
        some = (first, *(number for place, number in enumerate(rest) if chosen >> place & 1))
        others = tuple(number for place, number in enumerate(rest) if not chosen >> place & 1)
        found[min((some, others), (others, some), key=lambda parts: (len(parts[0]), parts))] = None
    return list(found)
