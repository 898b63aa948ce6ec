"""Training rows that were looked at: problems without an answer, twice, or of an evaluation set are left out, and
demonstrations that end in another answer, or are too long, are taken away.
"""

import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..grading import Grader
from ..grading.undone import problem_text


BATCH = 256
EXCLUDED = "in an excluded set"
# Characters from which on a problem is told from others wherever it stands in a prompt.
TELLING = 40


@dataclass
class Preparation:
    """
    What became of the rows.

    Args:
        rows (`list[dict[str, Any]]`):
            Rows of the schema of `Elliott/Openr1-Math-46k-8192`, one per problem.
        read (`int`):
            Rows that were read.
        dropped (`Counter`):
            Rows that were left out, by reason.
        demonstrations_dropped (`Counter`):
            Demonstrations that were taken away, by reason. Their problems stay.
        lengths (`list[int]`):
            Of the demonstrations that stay: tokens, or characters without a tokenizer.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0
    dropped: Counter = field(default_factory=Counter)
    demonstrations_dropped: Counter = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)


def prepare(
    rows: Iterable[dict[str, Any]],
    grader: Grader,
    *,
    excluded: Iterable[str] = (),
    max_length: int | None = None,
    length: Callable[[str], int] = len,
    source: str = "",
    progress: Callable[[int], None] = lambda count: None,
) -> Preparation:
    """
    Look at every row.

    Args:
        rows (`Iterable[dict[str, Any]]`):
            Rows in the form of [`~trl_amft.tasks.maths_fields.read_row`].
        grader ([`~trl_amft.grading.Grader`]):
            Says whether a demonstration ends in the right answer.
        excluded (`Iterable[str]`, *optional*):
            Problems that must not be trained on, in any of the forms that [`plain`] makes one; long ones also where
            a prompt says more than the problem.
        max_length (`int`, *optional*):
            Longest demonstration.
        length (`Callable[[str], int]`, *optional*):
            Length of a demonstration; characters if not given.
        source (`str`, *optional*):
            Written into the column `data_source`.
        progress (`Callable[[int], None]`, *optional*):
            Called with the number of rows that are done.

    Returns:
        [`Preparation`]
    """
    done, kept = Preparation(), []
    is_excluded = _finder({plain(problem) for problem in excluded})
    for row in rows:
        done.read += 1
        problem = plain(problem_of(row["prompt"]))
        if not row["solution"]:
            done.dropped["no problem or no answer"] += 1
        elif is_excluded(problem):
            done.dropped[EXCLUDED] += 1
        else:
            kept.append((problem, row))
    # Of rows with the same problem the first whose demonstration stays, otherwise the first.
    chosen: dict[str, tuple[dict[str, Any], str | None, int]] = {}
    progress(done.read - len(kept))
    for start in range(0, len(kept), BATCH):
        part = kept[start : start + BATCH]
        texts = [row["demonstration"][-1]["content"] if row["demonstration"] else None for _, row in part]
        shown = {index: text for index, text in enumerate(texts) if text}
        verdicts = grader.grade(list(shown.values()), [part[index][1]["solution"] for index in shown])
        right = dict(zip(shown, verdicts, strict=True))
        for index, (problem, row) in enumerate(part):
            text, reason, tokens = texts[index], None, 0
            if not text:
                reason = "there was none"
            elif right[index].undecided:
                reason = "its answer could not be compared in time"
            elif not right[index].correct:
                reason = "it ends in another answer"
            else:
                tokens = length(text)
                if max_length is not None and tokens > max_length:
                    reason = f"longer than {max_length:,}"
            if problem in chosen:
                done.dropped["same problem as another row"] += 1
            if problem not in chosen or (reason is None and chosen[problem][1] is not None):
                chosen[problem] = (row, reason, tokens)
        progress(len(part))
    for row, reason, tokens in chosen.values():
        if reason is None:
            done.lengths.append(tokens)
        else:
            done.demonstrations_dropped[reason] += 1
        done.rows.append(_written(row, reason is None, source, len(done.rows)))
    return done


def _finder(excluded: set[str]) -> Callable[[str], bool]:
    """Whether a problem is one of these, or holds one of `TELLING` characters or more."""
    by_start: dict[str, list[str]] = defaultdict(list)
    for problem in excluded:
        if len(problem) >= TELLING:
            by_start[problem[:TELLING]].append(problem)

    def finds(problem: str) -> bool:
        # Looked up by their beginnings, as to search for each of thousands in each row takes minutes.
        return problem in excluded or any(
            problem.startswith(found, place)
            for place in range(len(problem) - TELLING + 1 if by_start else 0)
            for found in by_start.get(problem[place : place + TELLING], ())
        )

    return finds


def problem_of(prompt: list[dict[str, str]]) -> str:
    """The last turn of the user, or all turns."""
    return problem_text(prompt, json.dumps(prompt))


def plain(problem: str) -> str:
    """A problem without what editions differ in: spaces, dollar signs, sizes of brackets, capitals, end marks."""
    return re.sub(r"[\s$]+|\\[,;:! ]|\\left(?![a-z])|\\right(?![a-z])", "", problem.casefold()).rstrip(".?!:;,")


def summary_rows(done: Preparation, unit: str) -> list[tuple[str, str]]:
    """
    The summary as rows of two columns.

    Args:
        done ([`Preparation`]):
            What became of the rows.
        unit (`str`):
            What lengths count, "tokens" or "characters".

    Returns:
        `list[tuple[str, str]]`
    """
    demonstrations = len(done.lengths)
    rows = [("rows read", f"{done.read:,}")]
    rows += [(f"left out: {reason}", f"{count:,}") for reason, count in done.dropped.most_common()]
    rows += [("problems written", f"{len(done.rows):,}"), ("with a demonstration", f"{demonstrations:,}")]
    rows += [(f"no demonstration: {why}", f"{count:,}") for why, count in done.demonstrations_dropped.most_common()]
    if demonstrations > 1:
        cuts = statistics.quantiles(done.lengths, n=100, method="inclusive")
        values = (min(done.lengths), cuts[49], cuts[89], cuts[98], max(done.lengths))
        shown = " / ".join(f"{value:,.0f}" for value in values)
        rows.append((f"{unit}: least / median / 90 % / 99 % / most", shown))
    return rows


def _written(row: dict[str, Any], with_demonstration: bool, source: str, index: int) -> dict[str, Any]:
    return {
        "data_source": source,
        "prompt": row["prompt"],
        "target": row["demonstration"] if with_demonstration else None,
        "ability": "math",
        "reward_model": {"ground_truth": row["solution"], "style": "rule"},
        "extra_info": {"index": index, "split": "train"},
    }
