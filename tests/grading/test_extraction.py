"""The answer of a completion: behind the thinking, the last box, or the last sentence that announces one."""

import time

import pytest

from trl_amft.grading.extraction import after_thinking, final_answer, gold_answer, last_box


class TestThinking:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("<think>a</think>b", "b"),
            ("a</think>b", "b"),
            ("a</think>b</think>c", "c"),
            ("no thought", "no thought"),
            ("<think>never closed", ""),
            ("said<think>never closed", "said"),
            ("<think>a</think>b<think>c", "b"),
        ],
    )
    def test_what_is_said(self, text, said):
        assert after_thinking(text) == said


class TestBox:
    @pytest.mark.parametrize(
        ("text", "content"),
        [
            ("\\boxed{1} \\boxed{2}", "2"),
            ("\\boxed{203}\\boxed{204}", "204"),
            ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
            ("\\boxed{\\boxed{8}}", "8"),
            ("\\fbox{6}", "6"),
            ("\\boxed {6}", "6"),
            ("\\boxed 6", "6"),
            ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
            ("\\boxed{\\left\\{1\\right.}", "\\left\\{1\\right."),
            ("\\boxed{10} and \\boxed{", "10"),
            ("\\boxed{", None),
            ("boxed{5}", None),
            ("\\boxedx{5}", None),
            ("", None),
        ],
    )
    def test_last_closed_box(self, text, content):
        assert last_box(text) == content

    def test_length(self):
        assert last_box(f"\\boxed{{{'1' * 500}}}") == "1" * 500
        assert last_box(f"\\boxed{{{'1' * 501}}}") is None


class TestAnswer:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("The answer is 5. The answer is 7.", "7"),
            ("The answer is 5. Wait. Answer: 7", "7"),
            ("**Answer:** 3.5", "3.5"),
            ("The final answer is $\\frac{3}{8}$. I hope it is correct.", "\\frac{3}{8}"),
            ("The answer is \\(x+1\\) as claimed", "x+1"),
            ("so\n#### 1,250", "1,250"),
            ("The answer is $\\$18$.", "\\$18"),
            ("The answer is 9. No: \\boxed{8}", "8"),
            ("<think>the answer is 1</think>hm", None),
            ("42", None),
            ("\\boxed{}", None),
        ],
    )
    def test_final_answer(self, text, answer):
        assert final_answer(text) == answer

    def test_too_long_a_box_is_not_replaced_by_a_sentence(self):
        assert final_answer(f"The answer is 5. \\boxed{{{'1+' * 300}1}}") is None
        assert final_answer(f"The answer is 5. \\boxed{{{'1+' * 300}1}}", max_length=1000) == "1+" * 300 + "1"

    @pytest.mark.parametrize(
        "unit", ["\\boxed{", "\\boxed{}", "</think>", "answer is ", "answer     ", "$", "{", "**"]
    )
    def test_a_megabyte_takes_no_time(self, unit):
        started = time.process_time()
        final_answer(unit * (1_000_000 // len(unit)))
        assert time.process_time() - started < 1

    def test_gold(self):
        assert gold_answer("Thus \\boxed{ 7 }") == "7" and gold_answer(" 7 ") == "7" and gold_answer("") == ""
        assert gold_answer(f"\\boxed{{{'1' * 900}}}") == "1" * 900
