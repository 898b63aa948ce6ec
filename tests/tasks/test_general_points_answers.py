import json
import time

import pytest

from trl_amft.tasks.general_points_answers import Verdict, general_points_reward, judge, parse_formula
from trl_amft.tasks.json_answers import completion_text, read_object


C, V, N, M, I = Verdict.CORRECT, Verdict.WRONG_VALUE, Verdict.WRONG_NUMBERS, Verdict.MISREAD, Verdict.ILLEGAL  # noqa: E741


def answer(formula: str, cards='["3", "3", "8", "8"]', number="[3, 3, 8, 8]") -> str:
    return f'{{"cards": {cards}, "number": {number}, "formula": {json.dumps(formula, ensure_ascii=False)}}}'


def verdicts(text: str, cards=("3", "3", "8", "8"), numbers=(3, 3, 8, 8)) -> tuple[Verdict, Verdict]:
    return tuple(judge(text, list(cards), list(numbers), 24, lenient) for lenient in (False, True))


# Formulas for 3, 3, 8, 8: what they are to the strict parser, and what to the lenient one.
FORMULAS = [
    ("8/(3-8/3)=24", C, C),
    (" 8 / ( 3 - 8 / 3 ) = 24 ", C, C),
    ("(8/((3)-(8/3)))=24", C, C),
    ("8/(3-8/3)", I, C),
    ("8/(3-8/3)=", I, I),
    ("8÷(3−8÷3)=24", I, C),
    ("8×3+3−8=24", I, V),
    ("8*3+3-8=24", V, V),  # 19
    ("8*3*(8-3)=24", V, V),
    ("8/(3-8/3)=25", V, V),  # right on the left, false as a statement
    ("8*3+3-8=19", V, V),
    ("8/(3-8/3)=24=24", I, I),
    ("8/(3-8/3)==24", I, I),
    ("8/(3-8/3)=24 done", I, I),
    ("8/(3-8/3)=24.0", I, I),
    ("8/(3-8/3)=+24", I, I),
    ("8/(3-8/3)=024", I, I),
    ("8/(3-8/3)=12+12", I, I),
    ("24=8/(3-8/3)", I, I),
    ("8/(3-8/3)=٢٤", I, I),
    ("8/(3-8/3)=2٤", I, I),
    ("8\u00a0/(3-8/3)=24", I, I),  # a space that is not one of ASCII
    ("٨/(٣-٨/٣)=24", I, I),  # Arabic digits, which int() would read
    ("８/(３-８/３)=24", I, I),  # full-width digits
    ("8/(3−8/3)=24", I, C),
    ("8/(3-8/³)=24", I, I),
    ("3*8=24", N, N),  # numbers left out
    ("3*8*3/3=24", N, N),  # one used three times
    ("3*8+8-8=24", N, N),
    ("3*8=24=24", I, I),
    ("24=24", N, N),
    ("=24", I, I),
    ("33-8-1=24", N, N),  # 3 and 3 written together
    ("38-8-3-3=24", N, N),
    ("3 3-8-1=24", I, I),
    ("88/3-3=24", N, N),
    ("12*2=24", N, N),
    ("3+3+8+8+2=24", N, N),
    ("0*3+3*8+0*8=24", N, N),
    ("3**3-8/8=24", I, I),  # a power
    ("3^3-8/8=24", I, I),
    ("3//3*8*8=24", I, I),
    ("8%3*3*8=24", I, I),
    ("3!*8-8*3=24", I, I),
    ("sqrt(8*8)*3=24", I, I),
    ("-3+3+8*8=24", I, I),  # a sign
    ("8*-3+3*8=24", I, I),
    ("+8/(3-8/3)=24", I, I),
    ("8/(3-3)*8=24", I, I),  # division by zero
    ("8/(8-8)+3*3=24", I, I),
    ("3/(3-3)-8*8=24", I, I),
    ("8(3)(8-3)=24", I, I),  # no operator
    ("(8)3+3-8=24", I, I),
    ("8/(3-8/3=24", I, I),
    ("8/3-8/3)=24", I, I),
    ("8/(3-8/)3=24", I, I),
    ("8/()(3-8/3)=24", I, I),
    ("8/[3-8/3]=24", I, I),
    ("08/(3-8/3)=24", I, I),
    ("8.0/(3-8/3)=24", I, I),
    ("8e0/(3-8/3)=24", I, I),
    ("0x8/(3-8/3)=24", I, I),
    ("8/(3-8/3)\x00=24", I, I),
    ("8/(3-8/3)#=24", I, I),
    ("__import__('os')=24", I, I),
    ("x=24", I, I),
    ("", I, I),
    ("99999*3=24", I, I),
    ("(" * 90 + "8/(3-8/3)" + ")" * 90 + "=24", C, C),
    ("(" * 5_000 + "8" + ")" * 5_000 + "=24", I, I),
    ("9" * 10_000 + "=24", I, I),
]

# Whole answers for 3, 3, 8, 8.
ANSWERS = [
    (answer("8/(3-8/3)=24"), C, C),
    (answer("8/(3-8/3)=24", cards='["8", "3", "8", "3"]', number="[8, 8, 3, 3]"), C, C),
    (answer("8/(3-8/3)=24", cards="[3, 3, 8, 8]", number='["3", "3", "8", "8"]'), C, C),
    ("\n " + answer("8/(3-8/3)=24") + " \n", C, C),
    ("I think: " + answer("8/(3-8/3)=24"), I, C),
    (answer("8/(3-8/3)=24") + " That is it.", I, C),
    ("```json\n" + answer("8/(3-8/3)=24") + "\n```", I, C),
    (answer("3*8=24") + answer("8/(3-8/3)=24"), I, C),  # the last one counts
    (answer("8/(3-8/3)=24") + answer("3*8=24"), I, N),
    (answer("8/(3-8/3)=24")[:-1] + ",}", I, C),
    (answer("8/(3-8/3)=24").replace("]", ",]"), I, C),
    (answer("8/(3-8/3)=24").replace('"', "'"), I, C),
    (answer("8/(3-8/3)=24").replace('"', "'")[:-1] + ", }", I, C),
    ('{"formula": "8/(3-8/3)=24"}', I, C),
    (answer("8/(3-8/3)=24")[:-1] + ', "why": "so"}', I, C),
    (answer("8/(3-8/3)=24")[:-1] + ', "formula": "3*8=24"}', I, I),  # a key twice
    (answer("8/(3-8/3)=24")[:-1] + ', "x": NaN}', I, I),
    (answer("8/(3-8/3)=24")[:-1], I, I),
    (answer("8/(3-8/3)=24")[1:], I, I),
    ("[" + answer("8/(3-8/3)=24") + "]", I, C),
    (answer("8/(3-8/3)=24", cards='["3", "3", "8", "9"]'), M, M),
    (answer("8/(3-8/3)=24", cards='["3", "3", "8"]'), M, M),
    (answer("8/(3-8/3)=24", cards='"3 3 8 8"'), M, M),
    (answer("8/(3-8/3)=24", cards="null"), M, M),
    (answer("8/(3-8/3)=24", cards="[true, 3, 8, 8]"), M, M),
    (answer("8/(3-8/3)=24", number="[3, 3, 8, 9]"), N, N),
    (answer("8/(3-8/3)=24", number="[3, 3, 8, 8.0]"), N, N),
    (answer("8/(3-8/3)=24", number="24"), N, N),
    ('{"cards": ["3", "3", "8", "8"], "number": [3, 3, 8, 8], "formula": 24}', I, I),
    ('{"cards": ["3", "3", "8", "8"], "number": [3, 3, 8, 8], "formula": ["8/(3-8/3)=24"]}', I, I),
    ('{"cards": ["3", "3", "8", "8"], "number": [3, 3, 8, 8]}', I, I),
    ('"8/(3-8/3)=24"', I, I),
    ("8/(3-8/3)=24", I, I),
    ("{}", I, I),
    ("{", I, I),
    ("}{", I, I),
    ("", I, I),
    ("null", I, I),
    ("[" * 100_000 + "]" * 100_000, I, I),
    ('{"formula": ' + "[" * 1_900 + "]" * 50 + "}", I, I),
    ("{" * 1_000_000, I, I),
    ("}" * 1_000_000, I, I),
    ("8" * 1_000_000, I, I),
    (" " * 1_000_000 + answer("8/(3-8/3)=24"), I, C),
    ('{"formula": "' + "8+" * 500_000 + '8=24"}', I, I),
]


class TestVerdicts:
    def test_there_are_many(self):
        assert len({formula for formula, *_ in FORMULAS}) + len({text for text, *_ in ANSWERS}) >= 100

    @pytest.mark.parametrize(("formula", "strict", "lenient"), FORMULAS, ids=lambda value: ascii(value)[:30])
    def test_formula(self, formula, strict, lenient):
        assert verdicts(answer(formula)) == (strict, lenient)

    @pytest.mark.parametrize(("text", "strict", "lenient"), ANSWERS, ids=lambda value: ascii(value)[:30])
    def test_answer(self, text, strict, lenient):
        assert verdicts(text) == (strict, lenient)

    def test_nothing_takes_long(self):
        start = time.perf_counter()
        for text, *_ in ANSWERS:
            verdicts(text)
        assert time.perf_counter() - start < 2

    def test_cards_under_both_rules(self):
        text = '{"cards": ["J", "q", "A", 3], "number": [11, 12, 1, 3], "formula": "12*(3-1)*11=24"}'
        cards = ("J", "Q", "A", "3")
        assert verdicts(text, cards, (11, 12, 1, 3)) == (V, V)
        assert verdicts(text, cards, (10, 10, 1, 3)) == (N, N)
        assert verdicts(text.replace("12*(3-1)*11", "12*(3-1)+1"), cards, (11, 12, 1, 3)) == (N, N)
        assert verdicts(text.replace("12*(3-1)*11", "11+12+1*3"), cards, (11, 12, 1, 3)) == (V, V)

    def test_exactly_and_not_in_floats(self):
        # 1/3 + 1/3 + 1/3 is less than 1 in some orders of floating point.
        assert parse_formula("8/(3-8/3)")[0] == 24
        assert parse_formula("1/3+1/3+1/3")[0] == 1
        assert parse_formula("9999*9999*9999/9998")[0].denominator == 9998

    def test_left_to_right_and_multiplication_first(self):
        assert parse_formula("8-3-3")[0] == 2
        assert parse_formula("8-(3-3)")[0] == 8
        assert parse_formula("8/4/2")[0] == 1
        assert parse_formula("8/4*2")[0] == 4
        assert parse_formula("2+3*4")[0] == 14


class TestRewards:
    LISTED = [
        (answer("8/(3-8/3)=24"), 5.0, 1.0),
        (answer("8*3+3-8=24"), -1.0, 0.0),
        (answer("3*8=24"), -2.0, 0.0),
        (answer("8^3=24"), -3.0, 0.0),
        ("", -3.0, 0.0),
        (answer("8/(3-8/3)=24", cards='["3", "3", "8", "9"]'), -1.5, 0.0),
    ]

    def reward(self, completions, **options):
        columns = {"cards": ["3", "3", "8", "8"], "numbers": [3, 3, 8, 8], "target": 24}
        return general_points_reward(
            completions=completions,
            **{key: [value] * len(completions) for key, value in columns.items()},
            prompts=None,
            trainer_state=None,
            **options,
        )

    def test_listed_values(self):
        completions = [text for text, *_ in self.LISTED]
        assert self.reward(completions, reward_scale="original") == [value for _, value, _ in self.LISTED]
        assert self.reward(completions) == [value for *_, value in self.LISTED]

    def test_format_credit_goes_to_what_can_be_worked_out(self):
        completions = [text for text, *_ in self.LISTED]
        assert self.reward(completions, format_credit=0.1) == [1.0, 0.1, 0.1, 0.0, 0.0, 0.1]

    def test_conversations(self):
        message = {"role": "assistant", "content": answer("8/(3-8/3)=24")}
        parts = {"role": "assistant", "content": [{"type": "text", "text": message["content"]}]}
        none = {"role": "assistant", "content": None}
        assert self.reward([[message], [parts], [none], []]) == [1.0, 1.0, 0.0, 0.0]

    def test_strict(self):
        text = "So: " + answer("8/(3-8/3)=24")
        assert self.reward([text], lenient=True) == [1.0] and self.reward([text], lenient=False) == [0.0]


class TestObjects:
    def test_last_message_counts(self):
        assert completion_text([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]) == "b"

    def test_quotes_are_only_changed_where_nothing_else_helps(self):
        assert read_object('{"a": "it\'s"}', lenient=True) == {"a": "it's"}
        assert read_object("{'a': 'b'}", lenient=True) == {"a": "b"}
        assert read_object("{'a': 'b'}", lenient=False) is None
