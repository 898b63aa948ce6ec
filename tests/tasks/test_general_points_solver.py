import random
from collections import Counter
from fractions import Fraction
from itertools import combinations_with_replacement, permutations, product
from math import factorial, prod

import pytest

from trl_amft.tasks.general_points_hands import all_hands, numbers_of, reaches
from trl_amft.tasks.general_points_solver import is_solvable, random_expression, solve


OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: None if b == 0 or a is None else a / b,
}


def orders(hand) -> int:
    return factorial(len(hand)) // prod(factorial(times) for times in Counter(hand).values())


def brute_force(numbers) -> bool:
    """Every order of the numbers, every three operators, all five ways to set brackets."""

    def calculate(operator, a, b):
        return None if a is None or b is None else OPERATIONS[operator](a, b)

    for a, b, c, d in set(permutations(map(Fraction, numbers))):
        for f, g, h in product("+-*/", repeat=3):
            fab, gbc, hcd = calculate(f, a, b), calculate(g, b, c), calculate(h, c, d)
            values = (
                calculate(h, calculate(g, fab, c), d),
                calculate(h, calculate(f, a, gbc), d),
                calculate(g, fab, hcd),
                calculate(f, a, calculate(h, gbc, d)),
                calculate(f, a, calculate(g, b, hcd)),
            )
            if 24 in values:
                return True
    return False


def in_floats(text: str) -> float:
    """A second opinion on a printed formula: its own small parser, in floating point."""

    def expression(at, lowest):
        if text[at] == "(":
            value, at = expression(at + 1, 1)
            at += 1
        else:
            end = at
            while end < len(text) and text[end].isdigit():
                end += 1
            value, at = float(text[at:end]), end
        while at < len(text) and text[at] in "+-*/" and (2 if text[at] in "*/" else 1) >= lowest:
            operator = text[at]
            right, at = expression(at + 1, 3 if operator in "*/" else 2)
            value = OPERATIONS[operator](value, right)
        return value, at

    return expression(0, 1)[0]


class TestCounts:
    def test_number_multisets_that_reach_24(self):
        assert sum(is_solvable(numbers, 24) for numbers in combinations_with_replacement(range(1, 11), 4)) == 566
        assert sum(is_solvable(numbers, 24) for numbers in combinations_with_replacement(range(1, 14), 4)) == 1362

    def test_rank_multisets_under_ten(self):
        hands = [hand for hand in all_hands() if reaches(hand, "ten", 24)]
        assert (len(all_hands()), len(hands), sum(map(orders, hands))) == (1820, 1236, 20_876)

    def test_rank_multisets_under_face_with_a_face_card(self):
        hands = [hand for hand in all_hands() if {"J", "Q", "K"} & set(hand) and reaches(hand, "face", 24)]
        assert (len(hands), sum(map(orders, hands))) == (796, 14_057)

    def test_hands_without_a_face_card_are_the_same_task_under_both_rules(self):
        plain = [hand for hand in all_hands() if not {"J", "Q", "K"} & set(hand)]
        assert all(numbers_of(hand, "ten") == numbers_of(hand, "face") for hand in plain)
        assert sum(reaches(hand, "face", 24) for hand in plain) == 566


class TestSolver:
    @pytest.mark.parametrize("part", range(2))
    def test_agrees_with_brute_force(self, part):
        rng = random.Random(part)
        hands = [tuple(sorted(rng.choices(range(1, 14), k=4))) for _ in range(12)]
        hands += [(3, 3, 8, 8), (1, 1, 1, 1), (1, 5, 5, 5), (13, 13, 13, 13)][2 * part :][:2]
        for numbers in hands:
            assert is_solvable(numbers, 24) == brute_force(numbers) == bool(solve(numbers, 24)), numbers

    def test_hand_of_one_solution(self):
        assert [str(solution) for solution in solve((8, 3, 8, 3), 24)] == ["8/(3-8/3)"]

    def test_printed_solutions_have_the_value_and_the_numbers(self):
        rng = random.Random(0)
        for numbers in rng.sample(list(combinations_with_replacement(range(1, 14), 4)), 60):
            for solution in map(str, solve(numbers, 24)):
                assert abs(in_floats(solution) - 24) < 1e-9, solution
                digits = "".join(sign if sign.isdigit() else " " for sign in solution).split()
                assert sorted(map(int, digits)) == sorted(numbers)

    def test_brackets_where_they_are_needed_and_nowhere_else(self):
        rng = random.Random(0)
        for _ in range(300):
            expression = random_expression((2, 3, 5, 7), rng)
            assert abs(in_floats(str(expression)) - expression.value) < 1e-9, str(expression)
        assert "(2+3+4)" not in {str(random_expression((2, 3, 4), rng)) for _ in range(100)}

    def test_no_solution_is_listed_twice(self):
        texts = [str(solution) for solution in solve((2, 2, 6, 6), 24)]
        assert len(texts) == len(set(texts)) > 1

    def test_other_targets(self):
        assert is_solvable((1, 1, 1, 1), 4) and not is_solvable((1, 1, 1, 1), 24)
