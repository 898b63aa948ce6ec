"""Right or wrong for many completions at once: cheap comparisons first, the rest by the pool, each pair only once."""

import atexit
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from . import letters, pool
from .exact import compare
from .extraction import MAX_ANSWER_LENGTH, final_answer, gold_answer
from .pool import FormulaPool
from .spelling import tidy
from .undone import is_undone


# What no answer of a person looks like. It is wrong unless the right one looks like it too.
MONSTER = re.compile(r"\d{400}|\^\{?-?\d{6}|\d{5}\)?!|!\)?!|(?:\^[({\s]*(?:\d+|[A-Za-z]|\\[a-z]+)\s*){3}")
MAX_DEPTH = 25
# What may take long is compared last, so that it costs no other answer its time.
SLOW = re.compile(r"!|\^[({]*[^(){}^]{1,40}\^|\d{7}|\\(?:sum|prod|int|lim|binom)")
# Two answers in one box, and formulas that math-verify knows under another name.
REWRITES = (
    (re.compile(r"\\text\{(?:or|and)\}"), ","),
    (re.compile(r"\\\{\\\}"), r"\\emptyset"),
    (re.compile(r"(?<=\d)[eE]([-+]?\d+)"), r"\\times 10^{\1}"),
)


@dataclass(frozen=True)
class Verdict:
    """
    Args:
        correct (`bool`):
            Whether the completion ends with the right answer.
        undecided (`str`, *optional*):
            Why a comparison came to no end: `"time"`, `"memory"`, `"killed"` or `"budget"`. It counts as wrong.
    """

    correct: bool
    undecided: str | None = None


class Grader:
    """
    Grades completions against ground truths. Thread-safe; the processes start with the first formula.

    Args:
        batch_seconds (`float`, *optional*, defaults to `30.0`):
            Wall time of one call of [`~Grader.grade`], after the start of the processes.
        cache_size (`int`, *optional*, defaults to `50000`):
            How many compared pairs are remembered, the latest.
        **pool_kwargs:
            Arguments of [`~trl_amft.grading.pool.FormulaPool`].
    """

    def __init__(self, *, batch_seconds: float = 30.0, cache_size: int = 50_000, **pool_kwargs):
        if batch_seconds <= 0:
            raise ValueError(f"batch_seconds={batch_seconds} must be positive")
        self.batch_seconds = batch_seconds
        self.cache_size = cache_size
        self._pool_kwargs = pool_kwargs
        self._pool: FormulaPool | None = None
        self._cache: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def grade(self, texts: list[str], golds: list[str], problems: list[str] | None = None) -> list[Verdict]:
        """
        Grade completions.

        Args:
            texts (`list[str]`):
                Completions.
            golds (`list[str]`):
                Ground truths, framed or not; a letter from A to J stands for an option.
            problems (`list[str]`, *optional*):
                Problems. Where they are given, an answer that only says them again is wrong, see
                [`~trl_amft.grading.undone.is_undone`].

        Returns:
            `list[Verdict]`: one per completion.
        """
        verdicts: list[Verdict] = []
        open_pairs: dict[tuple[str, str], list[int]] = {}
        asked: Sequence[str | None] = problems or [None] * len(texts)
        for text, solution, problem in zip(texts, golds, asked, strict=True):
            gold = gold_answer(solution)
            if letters.is_label(gold):
                verdicts.append(Verdict(letters.grade_choice(text, gold)))
                continue
            answer = final_answer(text, max(MAX_ANSWER_LENGTH, 2 * len(gold)))
            if answer is None or not gold:
                verdicts.append(Verdict(False))
                continue
            same = compare(gold, answer)
            refused = same is None and (
                (is_monster(answer) and not is_monster(gold))
                or (problem is not None and is_undone(problem, gold, answer))
            )
            if same is None and not refused:
                open_pairs.setdefault((rewritten(gold), rewritten(answer)), []).append(len(verdicts))
            # That of an open pair is only held for its place.
            verdicts.append(Verdict(bool(same)))
        for pair, outcome in self._outcomes(list(open_pairs)).items():
            undecided = None if outcome in (pool.SAME, pool.DIFFERENT) else outcome
            for index in open_pairs[pair]:
                verdicts[index] = Verdict(outcome == pool.SAME, undecided)
        return verdicts

    def process_ids(self) -> list[int]:
        """Process ids of the workers."""
        with self._lock:
            return [] if self._pool is None else self._pool.process_ids()

    def close(self) -> None:
        """End the processes. The next formula starts new ones."""
        with self._lock:
            formulas, self._pool = self._pool, None
        if formulas is not None:
            formulas.close()

    def _outcomes(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        with self._lock:
            outcomes = {pair: self._cache[pair] for pair in pairs if pair in self._cache}
            for pair in outcomes:
                self._cache.move_to_end(pair)
            missing = sorted((pair for pair in pairs if pair not in outcomes), key=_slowness)
            if missing and self._pool is None:
                self._pool = FormulaPool(**self._pool_kwargs)
            formulas = self._pool
        if missing and formulas is not None:
            found = dict(zip(missing, formulas.compare(missing, self.batch_seconds), strict=True))
            outcomes |= found
            with self._lock:
                # Another time there may be time, and the process may live.
                self._cache |= {pair: o for pair, o in found.items() if o not in (pool.BUDGET, pool.KILLED)}
                while len(self._cache) > self.cache_size:
                    self._cache.popitem(last=False)
        return outcomes


def is_monster(answer: str) -> bool:
    """
    Whether an answer is made to exhaust who reads it.

    Args:
        answer (`str`):
            An answer without its frame.

    Returns:
        `bool`: True for numbers of 400 digits, exponents of six, factorials of five, three storeys of exponents, and
        brackets nested more than 25 deep.
    """
    depth = deepest = 0
    for sign in answer:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH or MONSTER.search(answer) is not None


def rewritten(answer: str) -> str:
    answer = tidy(answer)
    for pattern, replacement in REWRITES:
        answer = pattern.sub(replacement, answer)
    return answer


def _slowness(pair: tuple[str, str]) -> tuple[bool, int]:
    return SLOW.search(pair[1]) is not None, len(pair[1])


_default: Grader | None = None
_default_lock = threading.Lock()


def default_grader() -> Grader:
    """
    The grader of this process, created with the first call and closed at exit.

    Returns:
        [`Grader`]
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Grader()
            atexit.register(_default.close)
        return _default


def _forget_in_child() -> None:
    # The threads of a pool do not live on in a forked process, and its workers belong to the parent.
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
