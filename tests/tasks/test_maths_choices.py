"""Multiple choice: which option is right, and what cannot be read as such."""

import pytest
from choice_rows import CHOICES
from datasets import Dataset

from trl_amft.grading import maths_reward
from trl_amft.tasks.maths_choices import LETTERS
from trl_amft.tasks.maths_rows import to_form
from trl_amft.tasks.maths_synthetic import SYSTEM_PROMPT


@pytest.mark.parametrize("name", CHOICES)
def test_right_option(name):
    (read,) = to_form(name, Dataset.from_list([CHOICES[name]]))
    lines = read["prompt"][1]["content"].splitlines()
    letter = read["solution"].removeprefix("\\boxed{").removesuffix("}")
    assert lines[0] == "Which is a gas?" and f"{letter}. oxygen" in lines
    options = [line for line in lines if line[1:3] == ". "]
    assert [line[0] for line in options] == list(LETTERS[: len(options)])
    assert read["prompt"][0]["content"] == SYSTEM_PROMPT and read["demonstration"] is None
    wrong = "B" if letter == "A" else "A"
    said = [f"ANSWER: {letter}", f"ANSWER: {wrong}"]
    assert maths_reward(completions=said, solution=[read["solution"]] * 2) == [1.0, 0.0]


def test_subjects():
    found = [to_form(name, Dataset.from_list([row]))[0]["subject"] for name, row in CHOICES.items()]
    assert found == [None, "Chemistry", "chemistry"]


def test_order_is_shuffled_by_seed_and_question_alone():
    row = CHOICES["Idavidrein/gpqa"]
    rows = [row | {"Question": str(n)} for n in range(40)]
    first, again, other = (to_form("x", Dataset.from_list(rows), seed)["solution"][:] for seed in (0, 0, 1))
    assert first == again != other and set(first) == {f"\\boxed{{{letter}}}" for letter in "ABCD"}
    assert to_form("x", Dataset.from_list(rows[20:]), 0)["solution"][:] == first[20:]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("allenai/ai2_arc", {"answerKey": "9"}),
        ("TIGER-Lab/MMLU-Pro", {"answer": "Z"}),
        ("TIGER-Lab/MMLU-Pro", {"options": ["a", "N/A"], "answer": "A"}),
        ("TIGER-Lab/MMLU-Pro", {"options": None}),
        ("TIGER-Lab/MMLU-Pro", {"answer": "AB"}),
        ("TIGER-Lab/MMLU-Pro", {"question": None}),
        ("allenai/ai2_arc", {"choices": None}),
        ("allenai/ai2_arc", {"choices": {"text": ["iron"], "label": ["1", "2"]}}),
    ],
)
def test_unusable_rows_are_left_out(name, change):
    assert len(to_form(name, Dataset.from_list([CHOICES[name], CHOICES[name] | change]))) == 1


def test_only_what_fills_up_the_end_is_no_option():
    row = CHOICES["TIGER-Lab/MMLU-Pro"] | {"options": ["a", "N/A", "oxygen", "N/A", "N/A"], "answer": "C"}
    (read,) = to_form("x", Dataset.from_list([row]))
    assert read["solution"] == "\\boxed{C}" and "C. oxygen" in read["prompt"][1]["content"]
    assert "D. " not in read["prompt"][1]["content"]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"question": "2+2?", "choices": ["3", "4"], "answer": 1}, "choices"),
        ({"problem": "2+2?", "options": "3 or 4", "solution": "\\boxed{4}"}, "options"),
        ({"article": "x", "question": "y?", "options": ["a", "b"], "answer": "A"}, "article"),
    ],
)
def test_options_that_would_be_lost_are_refused(row, column):
    with pytest.raises(ValueError, match=f"missing: a form with the column '{column}' that is read here"):
        to_form("x", Dataset.from_list([row]))


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        (
            "allenai/ai2_arc",
            {"choices": ["a", "b"]},
            r"choices=\['a', 'b'\] must be a mapping with the lists text",
        ),
        ("allenai/ai2_arc", {"choices": {"text": ["a"]}}, "must be a mapping with the lists text and label"),
        ("TIGER-Lab/MMLU-Pro", {"options": "a or b"}, "options='a or b' must be a list of texts"),
    ],
)
def test_other_forms_are_refused(name, change, line):
    with pytest.raises(ValueError, match=f"dataset={name!r}: .*{line}") as caught:
        to_form(name, Dataset.from_list([CHOICES[name] | change]))
    assert "\n" not in str(caught.value)
