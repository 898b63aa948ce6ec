"""
Answers that leave the work to the grader: the problem again, or an expression of its own numbers.

Computer algebra works out whatever it is given, so without this `\\gcd(308,44)` would be right where 44 is asked for,
and a policy that is paid for it learns to copy.
"""

import functools
import re
from typing import Any

from .exact import read_number
from .spelling import TEXT, tidy


NUMBER = re.compile(r"\d+(?:\.\d+)?")
OPERATION = re.compile(
    r"(?<=[\w)}!%])(?:[-+*]|\\times|\\cdot|\\div)[({]*(?:\\[a-z]+[({]*)?\d"
    r"|\\(?:sqrt|sum|prod|int|lim|gcd|lcm|d?binom|log|ln|sin|cos|tan|max|min|det|lfloor|lceil|b?mod|pmod)|gcd|lcm"
    r"|[\d)]!|[\d)]\^|[\d)}]/[({\\]"
)
RELATION = re.compile(r"<|>|\\(?:leq?|geq?|lt|gt)(?![a-z])")
# Sides of a solved inequality: a variable alone, or none.
VARIABLE = re.compile(r"[A-Za-z](?:_(?:\w|\{\w+\}))?(?:\([A-Za-z]\))?")
# A problem that offers its answers.
CHOICE = re.compile(r"\b(?:or|which)\b", re.IGNORECASE)
# A shorter answer stands in many a problem by chance.
MIN_COPY = 5


def problem_text(prompt: Any, otherwise: str = "") -> str:
    """
    Args:
        prompt (`str` or `list[dict[str, Any]]`):
            A prompt of TRL.
        otherwise (`str`, *optional*, defaults to `""`):
            For messages without a turn of the user.

    Returns:
        `str`: the last turn of the user, or the whole of a text.
    """
    if isinstance(prompt, str):
        return prompt
    content = next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), otherwise)
    return content if isinstance(content, str) else " ".join(part.get("text") or "" for part in content)


def is_undone(problem: str, gold: str, answer: str) -> bool:
    """
    Whether an answer only says again what is asked.

    Args:
        problem (`str`):
            The problem.
        gold (`str`):
            The right answer, without its frame.
        answer (`str`):
            The one given, without its frame, which no comparison of texts or numbers has decided.

    Returns:
        `bool`: True where (1) the right answer is a number, and the one given an operation on numbers of the problem;
        (2) the right answer is no inequality, and the one given an unsolved one with numbers of the problem; (3) the
        answer stands in a problem that offers no choice, and the right one does not.
    """
    gold, answer = tidy(gold), tidy(answer)
    asked = _bare(problem)
    copied = len(_bare(answer)) >= MIN_COPY and _bare(answer) in asked and _bare(gold) not in asked
    if copied and not CHOICE.search(problem):
        return True
    last = re.split(r"=|\\approx", answer)[-1]
    if not set(NUMBER.findall(last)) <= set(NUMBER.findall(problem)):
        return False
    if read_number(gold) is not None:
        return OPERATION.search(last) is not None
    return RELATION.search(gold) is None and RELATION.search(answer) is not None and not _solved(answer)


def _solved(answer: str) -> bool:
    """Whether each side of each inequality is a variable alone or holds none."""
    # Of a set only what its elements have to meet.
    answer = re.sub(r"^\\\{[^:|]*?(?::|\\mid|\|)", "", answer)
    sides = re.split(r",|;|\\(?:cup|lor|land|wedge|vee)|\\text\{(?:or|and)\}", answer)
    sides = [side for part in sides for side in RELATION.split(part)]
    bare = [re.sub(r"\\[A-Za-z]+", "", TEXT.sub("", side)).strip("{}: ") for side in sides]
    return all(VARIABLE.fullmatch(side) or not re.search(r"(?![ei])[A-Za-z]", side) for side in bare)


# A problem comes with each of its completions.
@functools.lru_cache(maxsize=1024)
def _bare(text: str) -> str:
    """A text or formula without spaces, dollar signs and braces around single signs."""
    text = re.sub(r"\{(\w)\}", r"\1", tidy(text.replace("$", ""))).replace("␣", "")
    return re.sub(r"\\(le|ge)q(?![a-z])", r"\\\1", text)
