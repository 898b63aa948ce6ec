"""One spelling for what answers can be written in, so that equal texts are equal answers."""

import re


# One at a time: what repeats it would otherwise try every way to cut a run of spaces.
SPACE = r"(?:(?<!\\)\\[,;:! ]|\\q?quad\b|~|\s)"
SPACES = re.compile(SPACE)
# Three digits at a time are one number, a fraction is added to the whole number before it, other digits stay apart.
GROUPED = re.compile(
    rf"(?<![\d.,])\d{{1,3}}(?:{SPACE}+\d{{3}})+(?!\d)|(?<=\.)\d{{3}}(?:{SPACE}+\d{{3}})*{SPACE}+\d{{1,3}}(?!\d)"
)
WHOLE_AND_QUOTIENT = re.compile(rf"(?<![\d.,])(\d+){SPACE}+(\d+)/(\d+)(?!\d)")
BETWEEN_DIGITS = re.compile(rf"(?<=\d){SPACE}+(?=\d)")
APART = "␣"
# 5, 125 are two numbers, 5,125 is one. A thin space, as in 5,\!125, does not part them.
LISTED = re.compile(r",(?:\s|~|\\[;: ]|\\q?quad\b)+(?=\d{3}(?!\d))")
JOINED = re.compile(
    r"(?<=\d)\s{0,9},?\s{0,9}(?:\\(?:text|mbox)\{\s{0,9}(?:and|or)\s{0,9}\}|(?:and|or)\b)\s{0,9}(?=-?\d)"
)
LIST_COMMA = re.compile(r",(?=\s|~|\\[;: ]|\\q?quad\b)")
REWRITES = (
    ("−", "-"), ("–", "-"), ("×", "\\times "), ("·", "\\cdot "), ("÷", "/"), ("π", "\\pi "), ("∞", "\\infty "),
    ("≤", "\\le "), ("≥", "\\ge "), ("°", "^\\circ "), ("{,}", ","), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"),
    ("\\left", ""), ("\\right", ""), ("\\displaystyle", ""), ("^{\\circ}", "^\\circ"), ("\\%", "%"), ("\\$", "$"),
    ("\\text{$}", "$"), ("\\mathrm{e}", "e"), ("\\lbrace", "\\{"), ("\\rbrace", "\\}"), ("\\varnothing", "\\emptyset"),
)  # fmt: skip

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
SUPERSCRIPT = re.compile(r"⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
ROOT = re.compile(r"√(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+|[A-Za-z]))|(?<![\\A-Za-z])sqrt(?:\(([^()]*)\)|(\d+))")
QUOTIENTS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅛": (1, 8)}

TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|rm)\s*\{([^{}]*)\}")


def tidy(answer: str) -> str:
    """
    One spelling for what LaTeX can write in many.

    Args:
        answer (`str`):
            An answer without its frame.

    Returns:
        `str`: without sizes of brackets, marks at its end, and spaces, of which `␣` between two numbers is left.
    """
    for old, new in REWRITES:
        answer = answer.replace(old, new)
    for sign, (above, below) in QUOTIENTS.items():
        answer = answer.replace(sign, f"\\frac{{{above}}}{{{below}}}")
    answer = SUPERSCRIPT.sub(lambda match: f"^{{{match.group().translate(SUPERSCRIPTS)}}}", answer)
    answer = ROOT.sub(lambda match: f"\\sqrt{{{next(filter(None, match.groups()), '')}}}", answer)
    answer = _with_listed_apart(answer)
    answer = answer.strip().strip("$").strip() if answer.count("$") == 2 and answer.strip()[:1] == "$" else answer
    answer = GROUPED.sub(lambda match: SPACES.sub("", match.group()), answer)
    answer = BETWEEN_DIGITS.sub(APART, WHOLE_AND_QUOTIENT.sub(r"\1\\frac{\2}{\3}", answer))
    answer = SPACES.sub("", TEXT.sub(lambda match: f"\\text{{{match.group(1).strip()}}}", answer))
    answer = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", answer).rstrip(".,;:")
    inner = re.fullmatch(r"\{([^{}]*)\}", answer)
    return inner.group(1) if inner else answer


def _with_listed_apart(answer: str) -> str:
    """Commas, and words, of a list outside brackets as semicolons where one would read as part of a long number."""
    answer = JOINED.sub(", ", answer)
    depth, outside = 0, []
    for sign in answer:
        depth += (sign in "({[") - (sign in ")}]")
        outside.append(depth <= 0)
    if not any(outside[match.start()] for match in LISTED.finditer(answer)):
        return answer
    return LIST_COMMA.sub(lambda match: ";" if outside[match.start()] else ",", answer)
