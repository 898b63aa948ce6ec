"""Comparisons that need no computer algebra: the same text, the same words, the same number.

Most answers are decided here, exactly and in microseconds. `None` means that this file cannot tell.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from .spelling import APART, TEXT, tidy


# A decimal with so many digits stands for every number that rounds to it; a shorter one only for itself.
MIN_DIGITS = 6
# Numbers beyond would cost time or memory to write out.
MAX_DIGITS = 400
MAX_EXPONENT = 400

FRACTION = r"\\frac(?:\{([-+]?\d+)\}|(\d))(?:\{([-+]?\d+)\}|(\d))"
DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)"
TEN = r"10\^(?:\{([-+]?\d{1,4})\}|(\d))"
SCALE = rf"(?:[eE]([-+]?\d{{1,4}})|(?:\\times|\\cdot|\*){TEN})?"
# The order matters: the first form that matches is taken.
MIXED = re.compile(rf"([-+]?)(\d*){FRACTION}")
QUOTIENT = re.compile(r"([-+]?)(\d+)/(\d+)")
POWER = re.compile(rf"([-+]?){TEN}")
SCALED = re.compile(rf"([-+]?)({DECIMAL}){SCALE}")
ASSIGNMENT = re.compile(r"([A-Za-z](?:_\w|_\{\w+\})?)=(?=[^=]+$)")

# Canonical names of the units that are told apart. Other words after a number are ignored.
UNITS = {
    name: names[0]
    for names in (
        ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
        ("mm", "millimeter", "millimeters"),
        ("m", "meter", "meters", "metre", "metres"),
        ("km", "kilometer", "kilometers", "kilometre", "kilometres"),
        ("in", "inch", "inches"),
        ("ft", "foot", "feet"),
        ("mile", "miles", "mi"),
        ("yd", "yard", "yards"),
        ("g", "gram", "grams"),
        ("kg", "kilogram", "kilograms"),
        ("lb", "pound", "pounds"),
        ("s", "sec", "second", "seconds"),
        ("min", "minute", "minutes"),
        ("h", "hr", "hour", "hours"),
        ("day", "days"),
        ("week", "weeks"),
        ("month", "months"),
        ("year", "years"),
        ("mph", "milesperhour"),
        ("km/h", "kmh", "kilometersperhour"),
        ("m/s", "meterspersecond"),
        ("cent", "cents", "¢"),
        ("$", "dollar", "dollars"),
        ("°", "degree", "degrees", "^\\circ"),
        ("l", "liter", "liters", "litre", "litres"),
        ("ml", "milliliter", "milliliters"),
    )
    for name in names
}
# Bare letters behind a number are a product unless they are one of these.
BARE_UNITS = {name for name in UNITS if len(name) > 1 or not name.isalpha()}


@dataclass(frozen=True)
class Number:
    """
    A number as it was written.

    Args:
        value (`Fraction`):
            What it says, before a percent sign.
        step (`Fraction`, *optional*):
            Worth of the last digit of a decimal, and `None` for every other form.
        digits (`int`):
            Digits of a decimal without leading zeros.
        percent (`bool`):
            Whether a percent sign follows.
        unit (`str`, *optional*):
            Canonical name of its unit if that is known.
    """

    value: Fraction
    step: Fraction | None = None
    digits: int = 0
    percent: bool = False
    unit: str | None = None


def read_number(tidied: str) -> Number | None:
    """
    Read a number with what may surround it: `x=`, a currency, a percent sign, a unit.

    Args:
        tidied (`str`):
            Result of [`tidy`].

    Returns:
        [`Number`], *optional*
    """
    text = ASSIGNMENT.sub("", tidied, count=1) if ASSIGNMENT.match(tidied) else tidied
    if len(text) > MAX_DIGITS:
        return None
    money = re.match(r"-?\$", text) is not None
    text = text.replace("$", "", 1) if money else text
    read = _read(text)
    if read is None:
        return None
    number, end = read
    rest = text[end:]
    percent = re.fullmatch(r"%|\\text\{(?:percent|%)\}|percent", rest) is not None
    unit = "$" if money else None
    if rest and not percent:
        words = re.fullmatch(r"(\\text\{[^{}]*\}|\^\\circ|¢|[A-Za-z/]+)((?:\^\{?[23]\}?)?)", rest)
        if words is None:
            return None
        name = words.group(1).removeprefix("\\text{").removesuffix("}").lower().rstrip(".")
        if not words.group(1).startswith("\\text{") and name not in BARE_UNITS:
            return None
        if not re.fullmatch(r"[a-z/^°¢\\\s.$0-9]*", name) or re.match(r"(?:or|and)\b", name):
            return None
        known = UNITS.get(name)
        unit = unit or (known and known + words.group(2).replace("{", "").replace("}", ""))
    return replace(number, percent=percent, unit=unit)


def _read(text: str) -> tuple[Number, int] | None:
    """The number that a text begins with, and where it ends."""
    if match := MIXED.match(text):
        sign, whole, *parts = match.groups()
        numerator, denominator = (int(brace or digit) for brace, digit in (parts[:2], parts[2:]))
        if denominator == 0 or (whole and (numerator < 0 or denominator < 0)):
            return None
        # A whole number before a fraction is added to it.
        number = Number(int(whole or 0) + Fraction(numerator, denominator))
    elif match := QUOTIENT.match(text):
        sign, above, below = match.groups()
        if int(below) == 0:
            return None
        number = Number(Fraction(int(above), int(below)))
    elif match := POWER.match(text):
        sign, braced, digit = match.groups()
        exponent = int(braced or digit)
        if abs(exponent) > MAX_EXPONENT:
            return None
        number = Number(Fraction(10) ** exponent)
    elif match := SCALED.match(text):
        sign, mantissa, *exponents = match.groups()
        exponent = next((int(exponent) for exponent in exponents if exponent), 0)
        if abs(exponent) > MAX_EXPONENT:
            return None
        mantissa = mantissa.replace(",", "").rstrip(".")
        whole, point, places = mantissa.partition(".")
        scale = Fraction(10) ** exponent
        step = Fraction(1, 10 ** len(places)) * scale if point or exponent else None
        number = Number(Fraction(mantissa) * scale, step, len((whole + places).lstrip("0")))
    else:
        return None
    return (replace(number, value=-number.value) if sign == "-" else number), match.end()


def unit_after(tidied: str) -> str | None:
    """The canonical unit behind a number, those of one letter included, which may also be a factor."""
    read = _read(tidied)
    name = "" if read is None else tidied[read[1] :]
    return UNITS.get(TEXT.sub(r"\1", name).lower())


def same_number(gold: Number, answer: Number) -> bool:
    """
    Whether two numbers are the same.

    Args:
        gold ([`Number`]):
            The right one. Without a unit it agrees with any.
        answer ([`Number`]):
            The one given. 50 % is also 0.5, and 50 where a percentage may have been asked for.

    Returns:
        `bool`
    """
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    pairs = [(gold.value, answer.value)]
    if gold.percent and not answer.percent:
        pairs.append((gold.value / 100, answer.value))
    elif answer.percent and not gold.percent:
        # 0.5 % is no 0.5, whatever was asked for.
        pairs = [(gold.value, answer.value / 100)] + (pairs if abs(gold.value) > 1 else [])
    return any(a == b or _rounds_to(gold, a - b) or _rounds_to(answer, a - b) for a, b in pairs)


def _rounds_to(number: Number, difference: Fraction) -> bool:
    return number.step is not None and number.digits >= MIN_DIGITS and 2 * abs(difference) <= number.step


def words_of(tidied: str) -> str | None:
    """The words of an answer that is nothing but words, in small letters and without spaces; otherwise `None`."""
    bare = TEXT.sub(r"\1", tidied)
    wrapped = bare != tidied
    return bare.lower() if bare.isalpha() and bare.isascii() and (wrapped or len(bare) > 3) else None


def compare(gold: str, answer: str) -> bool | None:
    """
    Compare two answers as texts, words and numbers.

    Args:
        gold (`str`):
            The right answer, without its frame.
        answer (`str`):
            The one given, without its frame.

    Returns:
        `bool`, *optional*: `None` where it takes more to decide.
    """
    gold, answer = tidy(gold), tidy(answer)
    if not answer or not gold:
        return False
    if gold.replace(";", ",") == answer.replace(";", ","):
        return True
    # To math-verify 1 2 is 1 + 2.
    if APART in gold + answer:
        return False
    gold_words, answer_words = words_of(gold), words_of(answer)
    bare = TEXT.sub(r"\1", answer)
    if gold_words is not None and (answer_words is not None or bare.isalpha()):
        return gold_words == (answer_words or bare.lower())
    names = [match.group(1) for match in map(ASSIGNMENT.match, (gold, answer)) if match]
    if len(set(names)) > 1:
        return None
    gold_number, answer_number = read_number(gold), read_number(answer)
    if gold_number is not None and answer_number is not None:
        return same_number(gold_number, answer_number)
    units = [unit_after(text) for text in (gold, answer)]
    if all(units) and units[0] != units[1]:
        return False
    return False if gold_number is not None and answer_words is not None else None
