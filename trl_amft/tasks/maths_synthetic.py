"""Maths problems made from a seed, as rows of the schema of `Elliott/Openr1-Math-46k-8192`.

Linear equations, sums of fractions, greatest common divisors, roots of quadratics and intervals, each with its
solution worked out inside `<think>…</think>` and the answer in `\\boxed{}`. They stand in for that dataset where
nothing can be downloaded.
"""

import random
from fractions import Fraction
from math import gcd
from typing import Any


SYSTEM_PROMPT = "Think step by step between <think> and </think>, then put the final answer in \\boxed{}."

MOST = 10_000

# As in the dataset, some problems have no demonstration.
WITHOUT_TARGET = 8


def synthetic_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """
    Different problems with their solutions.

    Args:
        count (`int`):
            Number of rows, at most 10,000.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the problems. A larger `count` continues the same rows.

    Returns:
        `list[dict[str, Any]]`: rows with `data_source`, `prompt`, `target` (`None` in one of eight rows), `ability`,
        `reward_model` and `extra_info`.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"count={count} must lie between 1 and {MOST:,}, of which there are different problems")
    rng = random.Random(f"maths {seed}")
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        index = len(rows)
        problem, steps, answer = KINDS[index % len(KINDS)](rng)
        if problem in rows:
            continue
        solution = f"<think>\n{steps}\n</think>\n\nThe answer is \\boxed{{{answer}}}."
        rows[problem] = {
            "data_source": "synthetic",
            "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": problem}],
            "target": None
            if index % WITHOUT_TARGET == WITHOUT_TARGET - 1
            else [{"role": "assistant", "content": solution}],
            "ability": "math",
            "reward_model": {"ground_truth": answer, "style": "rule"},
            "extra_info": {"index": index, "split": "train"},
        }
    return list(rows.values())


def _equation(rng: random.Random) -> tuple[str, str, str]:
    factor, solution, shift = rng.randint(2, 19), rng.randint(-29, 29), rng.randint(1, 99)
    total = factor * solution + shift
    steps = f"{factor}x = {total} - {shift} = {total - shift}\nx = {total - shift} / {factor} = {solution}"
    return f"Solve {factor}x + {shift} = {total} for x.", steps, str(solution)


def _fractions(rng: random.Random) -> tuple[str, str, str]:
    (a, b), (c, d) = (rng.sample(range(2, 13), 2) for _ in range(2))
    total = Fraction(a, b) + Fraction(c, d)
    steps = f"{a}/{b} + {c}/{d} = {a * d}/{b * d} + {c * b}/{b * d} = {a * d + c * b}/{b * d}\nLowest terms: {total}"
    return f"Compute \\frac{{{a}}}{{{b}}} + \\frac{{{c}}}{{{d}}} in lowest terms.", steps, latex(total)


def _common_divisor(rng: random.Random) -> tuple[str, str, str]:
    factor = rng.randint(2, 30)
    a, b = (factor * rng.randint(2, 40) for _ in range(2))
    steps, high, low = [], max(a, b), min(a, b)
    while low:
        steps.append(f"{high} = {high // low} * {low} + {high % low}")
        high, low = low, high % low
    return f"What is the greatest common divisor of {a} and {b}?", "\n".join(steps), str(gcd(a, b))


def _roots(rng: random.Random) -> tuple[str, str, str]:
    low, high = sorted(rng.sample(range(-40, 41), 2))
    linear, constant = -(low + high), low * high
    steps = f"{low} + {high} = {low + high} and {low} * {high} = {constant}\nso x = {low} or x = {high}"
    return f"Find all x with x^2 {linear:+d}x {constant:+d} = 0.", steps, f"\\{{{low}, {high}\\}}"


def _interval(rng: random.Random) -> tuple[str, str, str]:
    factor, low, width, shift = rng.randint(2, 9), rng.randint(-30, 30), rng.randint(1, 30), rng.randint(1, 40)
    high = low + width
    left, right = factor * low + shift, factor * high + shift
    steps = (
        f"{left} - {shift} = {left - shift} <= {factor}x < {right} - {shift} = {right - shift}\n"
        f"{left - shift} / {factor} = {low} <= x < {right - shift} / {factor} = {high}"
    )
    return f"Write the solutions of {left} <= {factor}x + {shift} < {right} as an interval.", steps, f"[{low}, {high})"


def latex(value: Fraction) -> str:
    """A positive fraction as LaTeX, a whole number as digits."""
    return str(value) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


KINDS = (_equation, _fractions, _common_divisor, _roots, _interval)
