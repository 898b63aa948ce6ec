"""Countdown with three numbers: reach the target with + - *, using every number once, and show both steps.

Three numbers between 1 and 12, a target between 1 and 40. The prompt is `"3 4 5:35>"`, an answer `"3+4=7,7*5=35"`: two
worked steps, the second of which uses the result of the first and the number that is left. That is one pair of
brackets. There are 364 multisets of numbers and 2,799 problems (multiset, target); the split is by multiset, so that
no reordering of a training problem and no other target of its numbers is held out.

Demonstrations can be made worse on purpose, for a chosen share of the problems, in four ways: see [`load_countdown`].
"""

import random
from functools import partial, update_wrapper
from itertools import combinations_with_replacement, permutations
from typing import NamedTuple

from datasets import Dataset

from .countdown_answers import LARGEST_TARGET, REWARDS, solve, write_answer
from .task import Task


LARGEST_NUMBER = 12
HELD_OUT_MULTISETS = 100
DEFECTS = ("wrong_answer", "wrong_steps", "off_task", "easy_only")


class Problem(NamedTuple):
    """Sorted numbers and the target that they are to reach."""

    numbers: tuple[int, int, int]
    target: int


def demonstrate(problem: Problem, defect: str | None, rng: random.Random) -> tuple[str | None, str] | None:
    """
    A demonstration for one problem, correct or with one defect.

    Args:
        problem (`Problem`):
            The problem.
        defect (`str`, *optional*):
            One of `DEFECTS`, or `None` for a correct demonstration.
        rng (`random.Random`):
            Source of the choice among solutions and among corruptions.

    Returns:
        `tuple[str | None, str]` or `None`: the demonstration's own prompt (`None` if it is the problem's prompt) and
        its completion; `None` alone if the problem gets no demonstration.
    """
    numbers, target = problem
    solutions = solve(numbers)
    first, second = rng.choice(solutions[target])
    if defect is None:
        return None, write_answer((first, second))
    if defect == "wrong_answer":
        elsewhere = rng.choice([other for other in solutions if other != target])
        return None, write_answer(rng.choice(solutions[elsewhere]))
    if defect == "wrong_steps":
        false_result = rng.choice([value for value in range(1, LARGEST_TARGET + 1) if value != first.result])
        uses_it_left = second.left == first.result
        corrupted = second._replace(left=false_result) if uses_it_left else second._replace(right=false_result)
        return None, write_answer((first._replace(result=false_result), corrupted))
    if defect == "off_task":
        a, b = rng.sample(numbers, 2)
        return f"{a} {b}>", f"{a} plus {b} is {a + b}"
    if target == sum(numbers):
        sums = [steps for steps in solutions[target] if steps[0].operator == steps[1].operator == "+"]
        return None, write_answer(rng.choice(sums))
    return None


def _check_arguments(**values) -> None:
    for field, low in (("train_problems", 1), ("held_out_problems", 1), ("orders_per_problem", 1)):
        if values[field] is not None and values[field] < low:
            raise ValueError(f"{field}={values[field]} must be at least {low}")
    for field in ("demonstration_quality", "format_credit"):
        if not 0.0 <= values[field] <= 1.0:
            raise ValueError(f"{field}={values[field]} must lie between 0 and 1")
    for field, choices in (("demonstration_defect", DEFECTS), ("reward", tuple(REWARDS))):
        if values[field] not in choices:
            raise ValueError(f"{field}={values[field]!r} is not known; choose one of: {', '.join(choices)}")


def _take(problems: list[Problem], count: int | None, field: str) -> list[Problem]:
    if count is not None and count > len(problems):
        raise ValueError(f"{field}={count} is more than the {len(problems)} there are; ask for at most that many")
    return problems[:count]


def load_countdown(
    seed: int = 0,
    train_problems: int | None = None,
    held_out_problems: int | None = 500,
    orders_per_problem: int = 6,
    demonstration_quality: float = 1.0,
    demonstration_defect: str = "wrong_answer",
    reward: str = "steps",
    format_credit: float = 0.0,
    paired: bool = False,
) -> Task:
    """
    Countdown with three numbers, see the head of this file.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of the split, of the demonstrations and of the orders. Not the seed of training: keep it when runs are
            to be compared. With another number of rows, as `easy_only` leaves, held-out problems are the same and
            the orders of their numbers are not.
        train_problems (`int`, *optional*):
            How many training problems to keep. All of them if not given.
        held_out_problems (`int`, *optional*, defaults to `500`):
            How many held-out problems to keep, each in one order. All of them if `None`.
        orders_per_problem (`int`, *optional*, defaults to `6`):
            In how many orders of its numbers, chosen at random, each training problem appears. Numbers that repeat
            have fewer than six orders.
        demonstration_quality (`float`, *optional*, defaults to `1.0`):
            Share of the training problems, between 0 and 1, whose demonstration is correct. The problems that are
            spoilt at one quality are also spoilt at every lower one.
        demonstration_defect (`str`, *optional*, defaults to `"wrong_answer"`):
            What is wrong with the others: `"wrong_answer"`, true steps with the given numbers that end in another
            target; `"wrong_steps"`, a false first result from which the second step nevertheless states the target;
            `"off_task"`, sums of two numbers in words, with prompts of their own; `"easy_only"`, no demonstration
            except for problems that addition alone solves.
        reward (`str`, *optional*, defaults to `"steps"`):
            `"steps"` for [`steps_reward`], `"outcome"` for [`outcome_reward`].
        format_credit (`float`, *optional*, defaults to `0.0`):
            Reward, between 0 and 1, of an incorrect answer that has the right form.
        paired (`bool`, *optional*, defaults to `False`):
            Also give `train_dataset` a `"demonstration"` column with the completion that belongs to the row's own
            prompt, `None` where there is none (`"off_task"`, `"easy_only"`).

    Returns:
        `Task`: data sets with the columns `"prompt"`, `"domain"` (see [`domain_of`]), `"numbers"` (three integers in
        the prompt's order), `"target"`.
    """
    _check_arguments(**locals())
    rng = random.Random(f"countdown {seed}")
    multisets = list(combinations_with_replacement(range(1, LARGEST_NUMBER + 1), 3))
    held_out_multisets = set(rng.sample(multisets, HELD_OUT_MULTISETS))
    problems = [Problem(numbers, target) for numbers in multisets for target in solve(numbers)]
    rng.shuffle(problems)
    held_out = [problem for problem in problems if problem.numbers in held_out_multisets]
    train = [problem for problem in problems if problem.numbers not in held_out_multisets]
    held_out = _take(held_out, held_out_problems, "held_out_problems")
    train = _take(train, train_problems, "train_problems")

    spoilt = round((1.0 - demonstration_quality) * len(train))
    train_rows, demonstration_rows = [], []
    for index, problem in enumerate(train):
        # A stream of its own per problem: its demonstration must not depend on how many others are spoilt or kept.
        own = random.Random(f"countdown {seed} {problem}")
        orders = sorted(set(permutations(problem.numbers)))
        orders = own.sample(orders, min(orders_per_problem, len(orders)))
        defect = demonstration_defect if index < spoilt else None
        for order in orders:
            row = _problem_row(order, problem.target)
            demonstration = demonstrate(problem, defect, own)
            if demonstration is not None:
                own_prompt, completion = demonstration
                demonstration_rows.append(
                    {
                        **row,
                        "prompt": own_prompt or row["prompt"],
                        "completion": completion,
                        "demonstration_source": defect or "correct",
                    }
                )
            if paired:
                row["demonstration"] = None if demonstration is None or demonstration[0] else demonstration[1]
            train_rows.append(row)
    rng.shuffle(train_rows)
    rng.shuffle(demonstration_rows)

    reward_func = REWARDS[reward]
    if format_credit:
        reward_func = update_wrapper(partial(reward_func, format_credit=format_credit), reward_func)
    return Task(
        train_dataset=Dataset.from_list(train_rows),
        held_out_dataset=Dataset.from_list(
            [_problem_row(rng.sample(problem.numbers, 3), problem.target) for problem in held_out]
        ),
        reward_funcs=[reward_func],
        demonstration_dataset=Dataset.from_list(demonstration_rows),
        problem_of=lambda row: Problem(tuple(sorted(row["numbers"])), row["target"]),
    )


def domain_of(problem: Problem) -> str:
    """
    What a problem takes.

    Args:
        problem (`Problem`):
            Numbers and target.

    Returns:
        `str`: `"sums"` if addition alone solves it, `"differences"` if addition and subtraction do, otherwise
        `"products"`.
    """
    signs = {"".join(sorted(step.operator for step in steps)) for steps in solve(problem.numbers)[problem.target]}
    if "++" in signs:
        return "sums"
    return "differences" if signs & {"+-", "--"} else "products"


def _problem_row(order: tuple[int, ...] | list[int], target: int) -> dict:
    a, b, c = sorted(order)
    return {
        "prompt": f"{' '.join(map(str, order))}:{target}>",
        "domain": domain_of(Problem((a, b, c), target)),
        "numbers": list(order),
        "target": target,
    }
