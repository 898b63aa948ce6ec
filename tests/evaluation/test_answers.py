"""The answer that is voted on, and what a set of samples sums up to."""

import pytest

from trl_amft.evaluation.summary import markdown, summarize
from trl_amft.grading.answer_keys import answer_key


class TestAnswers:
    @pytest.mark.parametrize(
        ("text", "solution", "key"),
        [
            ("\\boxed{0.5}", "\\frac{1}{2}", "1/2"),
            ("\\boxed{\\frac{2}{4}}", "7", "1/2"),
            ("\\boxed{50\\%}", "7", "1/2"),
            ("\\boxed{x = 3}", "7", "3"),
            ("\\boxed{\\text{Yes}}", "yes", "yes"),
            ("\\boxed{ x + 1 }", "7", "x+1"),
            ("The answer is (B).", "\\boxed{A}", "B"),
            ("none", "7", None),
        ],
    )
    def test_key(self, text, solution, key):
        assert answer_key(text, solution) == key

    def test_vote_in_the_summary(self):
        record = {
            "id": "a",
            "tokens": [1] * 3,
            "truncated": [False] * 3,
            "undecided": 2,
            "level": None,
            "subject": "s",
        }
        right = record | {"rewards": [1.0, 1.0, 0.0], "answers": ["1", "1", "2"]}
        wrong = record | {"rewards": [1.0, 0.0, 0.0], "answers": ["1", "2", "2"]}
        summary = summarize([right, wrong])
        assert summary["majority"]["mean"] == 0.5 and summary["accuracy"]["mean"] == 0.5
        assert (
            set(summary["pass"]) == {"1", "2", "3"} and summary["pass"]["3"]["mean"] == 1 and summary["undecided"] == 4
        )
        assert summarize([right | {"answers": None}])["majority"] is None

    def test_markdown(self):
        assert markdown([["a", "b"], ["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"
