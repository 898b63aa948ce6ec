"""The option that a completion chooses: "ANSWER: C", "(C)", "\\boxed{C}", "The answer is C", and digits for letters.

A verifier of formulas takes "A" for a variable, and a word that begins with it for a product. Here a letter counts
only where it is the whole answer, or the label before an option's text.
"""

import re

from .extraction import MAX_SENTENCE_DISTANCE, after_thinking, last_box


LABEL = re.compile(r"[A-J]|[1-9]")
# Wrappers that leave a label what it is.
WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|textrm|boldsymbol|rm|bf)\b|[{}$*\s~]|\\[,;: ]")
# "C", "(C)", "C." and "C: osmosis", but neither "Carbon" nor "A or C" nor "AC".
LABELLED = re.compile(r"\(?(?P<label>[A-Ja-j1-9])(?:\)|[.:)].*|)", re.DOTALL)
SENTENCE = re.compile(
    r"\b(?:answer|option|choice)\s{0,3}(?:\*\*)?\s{0,3}(?:is\s{0,3}:?|:|=)\s{0,3}"
    r"(?:(?:option|choice)\s{1,3})?(?P<rest>[^\n]{1,60})",
    re.IGNORECASE,
)
START = re.compile(
    r"[\s*$]{0,4}(?:\\text(?:bf)?\{)?(?P<open>\(?)(?P<label>[A-Ja-j1-9])(?P<close>\)?)(?P<next>.{0,12})", re.DOTALL
)
ALONE = re.compile(r"(?:^|\n|: )[\s*]{0,4}\(?(?P<label>[A-J])\)?[.\s*]{0,4}$")


def chosen_label(text: str) -> str | None:
    """
    The option that a completion chooses.

    Args:
        text (`str`):
            A completion.

    Returns:
        `str`, *optional*: a letter from A to J or a digit from 1 to 9; `None` where none or several are chosen.
    """
    said = after_thinking(text)
    boxed = last_box(said)
    if boxed is not None:
        return _whole(boxed)
    said = said[-MAX_SENTENCE_DISTANCE:]
    labels = [_label_at_start(sentence.group("rest")) for sentence in SENTENCE.finditer(said)]
    labels = [label for label in labels if label is not None]
    if labels:
        return labels[-1] or None
    alone = ALONE.search(said[-200:])
    return alone.group("label") if alone else None


def _whole(boxed: str) -> str | None:
    match = LABELLED.fullmatch(WRAPPER.sub("", boxed))
    return match.group("label").upper() if match else None


def _label_at_start(rest: str) -> str | None:
    """The label that a sentence names; empty where it names two; `None` where its first word is no label."""
    match = START.match(rest)
    if match is None:
        return None
    label, after = match.group("label"), match.group("next")
    ended = match.group("close") or not after[:1].isalnum()
    if re.match(r"[\s,]*(?:or|and)\s+\(?[A-J]\b", after):
        return ""
    # "The answer is a matter of taste": a small letter, or an article, must be all there is.
    alone = re.fullmatch(r"[\s.*})$]*", after) is not None
    article = label in ("A", "I") and re.match(r"[ ]+[a-z]", after) and not match.group("close")
    if not ended or article or (label.islower() and not alone and not match.group("close")):
        return None
    return label.upper()


def is_label(gold: str) -> bool:
    """Whether a ground truth is a letter from A to J, as the options of a question are called."""
    return re.fullmatch(r"[A-J]", gold_label(gold) or "") is not None


def gold_label(gold: str) -> str | None:
    """
    The label of a ground truth.

    Args:
        gold (`str`):
            Such as "C", "(C)", "\\text{C}" or "3".

    Returns:
        `str`, *optional*: the letter or digit; `None` if it is something else.
    """
    bare = WRAPPER.sub("", gold).strip("().")
    return bare if LABEL.fullmatch(bare) else None


def grade_choice(text: str, gold: str) -> bool:
    """
    Whether a completion chooses the right option.

    Args:
        text (`str`):
            A completion.
        gold (`str`):
            Label of the right option. Where it is a digit, the letter of the same rank is right as well.

    Returns:
        `bool`
    """
    right, label = gold_label(gold), chosen_label(text)
    if right is None or label is None:
        return False
    return label == right or (right.isdigit() and label == "ABCDEFGHI"[int(right) - 1])
