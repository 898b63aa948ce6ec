"""Which option a completion chooses."""

import pytest

from trl_amft.grading.letters import chosen_label, gold_label, grade_choice, is_label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("ANSWER: C", "C"),
        ("Answer: c", "C"),
        ("**Answer:** C. Plants", "C"),
        ("The answer is C", "C"),
        ("The answer is (C).", "C"),
        ("The answer is: **C**", "C"),
        ("The correct option is C, because", "C"),
        ("The answer is option C.", "C"),
        ("The answer is $C$.", "C"),
        ("\\boxed{C}", "C"),
        ("\\boxed{\\text{(C)}}", "C"),
        ("\\boxed{C. osmosis}", "C"),
        ("\\boxed{c}", "C"),
        ("\\boxed{B} or rather \\boxed{C}", "C"),
        ("ANSWER: B\nANSWER: C", "C"),
        ("(C)", "C"),
        ("All in all: (C)", "C"),
        ("<think>ANSWER: B</think>ANSWER: C", "C"),
        ("ANSWER: 3", "3"),
        ("The answer is A.", "A"),
        ("The answer is A because it is.", None),
        ("The answer is a matter of taste", None),
        ("The answer is Carbon", None),
        ("The answer is not C.", None),
        ("The answer is A or B.", None),
        ("\\boxed{A or C}", None),
        ("\\boxed{AC}", None),
        ("\\boxed{Carbon}", None),
        ("I do not know", None),
        ("ANSWER: K", None),
        ("<think>ANSWER: B", None),
        ("", None),
    ],
)
def test_chosen(text, label):
    assert chosen_label(text) == label


@pytest.mark.parametrize(
    ("gold", "label"),
    [("C", "C"), ("(C)", "C"), ("\\text{C}", "C"), ("3", "3"), ("AC", None), ("12", None), ("", None)],
)
def test_gold(gold, label):
    assert gold_label(gold) == label
    assert is_label(gold) == (label == "C")


def test_a_digit_is_also_a_letter():
    assert grade_choice("ANSWER: 3", "3") and grade_choice("ANSWER: C", "3") and not grade_choice("ANSWER: B", "3")
    assert not grade_choice("ANSWER: 3", "C") and not grade_choice("ANSWER: C", "oxygen")
