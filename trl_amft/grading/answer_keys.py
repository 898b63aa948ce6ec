"""One text per answer, so that samples can vote: equal for answers that are equal without computer algebra."""

from .exact import read_number, words_of
from .extraction import final_answer, gold_answer
from .letters import chosen_label, is_label
from .spelling import tidy


def answer_key(text: str, solution: str) -> str | None:
    """
    The answer of a completion in one form.

    Args:
        text (`str`):
            A completion.
        solution (`str`):
            The ground truth, which says whether options are chosen or formulas are given.

    Returns:
        `str`, *optional*: the label of an option, a fraction, words in small letters, or LaTeX in one spelling; `None`
        where the completion has no answer.
    """
    if is_label(gold_answer(solution)):
        return chosen_label(text)
    answer = final_answer(text)
    if answer is None:
        return None
    tidied = tidy(answer)
    number = read_number(tidied)
    if number is not None:
        return f"{number.value / 100 if number.percent else number.value}"
    return words_of(tidied) or tidied
