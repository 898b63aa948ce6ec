"""
General Points in several turns: the verifier's words come back, and the model may answer again, five times in all.

Uses TRL's environments: answers are calls of a tool, what the tool returns is a turn of its own, and its tokens carry
no loss. The model's chat template must know tools.

```python
task = load_general_points()
AMFTTrainer(
    ...,
    args=AMFTConfig(max_tool_calling_iterations=ATTEMPTS),
    train_dataset=task.train_dataset,
    environment_factory=GeneralPointsTurns,
    demonstration_dataset=as_tool_calls(task.demonstration_dataset),
)
```
"""

from typing import Any

from datasets import Dataset

from .general_points_answers import Verdict, judge
from .json_answers import completion_text


ATTEMPTS = 5
HINT = (
    f"\nSubmit the object with submit_answer. You are told what is wrong and may try again, {ATTEMPTS} times in all."
)
SUBMITTING = "I submit this answer."

WORDS = {
    Verdict.ILLEGAL: "That cannot be read: give one JSON object with a formula of numbers, + - * / and brackets.",
    Verdict.MISREAD: "The cards are not those that you hold.",
    Verdict.WRONG_NUMBERS: "The formula does not use each of the four numbers exactly once.",
    Verdict.WRONG_VALUE: "The formula does not reach {target}.",
    Verdict.CORRECT: "That is right.",
}


class GeneralPointsTurns:
    """
    One hand, as an environment of [`~trl.GRPOTrainer`]. Its reward is that of the last graded answer: 1 or 0.
    """

    def __init__(self):
        self._verdicts: list[Verdict] = []

    def reset(self, cards: list[str], numbers: list[int], target: int, **kwargs) -> str:
        """Start with a hand, from the columns of the data set. Returns what is added to the prompt."""
        self._cards, self._numbers, self._target = cards, numbers, target
        self._verdicts = []
        return HINT

    def submit_answer(self, answer: str) -> str:
        """
        Submit an answer and be told what is wrong with it.

        Args:
            answer: The JSON object with cards, number and formula.

        Returns:
            What is wrong, or that it is right.
        """
        if len(self._verdicts) == ATTEMPTS or Verdict.CORRECT in self._verdicts:
            return "This hand is over."
        verdict = judge(str(answer), self._cards, self._numbers, self._target)
        self._verdicts.append(verdict)
        words = WORDS[verdict].format(target=self._target)
        left = ATTEMPTS - len(self._verdicts)
        return words if verdict is Verdict.CORRECT else f"{words} Attempts left: {left}."

    def get_reward(self) -> float:
        """1 if the last graded answer is correct, else 0, also where none was submitted."""
        return float(self._verdicts[-1:] == [Verdict.CORRECT])


def as_tool_calls(demonstrations: Dataset) -> Dataset:
    """
    Demonstrations that submit their answer.

    Args:
        demonstrations (`Dataset`):
            Those of [`~trl_amft.tasks.general_points.load_general_points`] in `style="chat"`.

    Returns:
        `Dataset`: the same with the prompt that the environment makes, and a call of its tool. What stands before the
        object stays in words.
    """

    def submit(row: dict[str, Any]) -> dict[str, Any]:
        (user,) = row["prompt"]
        words, brace, rest = completion_text(row["completion"]).partition("{")
        call = {"type": "function", "function": {"name": "submit_answer", "arguments": {"answer": brace + rest}}}
        # Templates differ in what they make of a turn without words.
        message = {"role": "assistant", "content": words.strip() or SUBMITTING, "tool_calls": [call]}
        return row | {"prompt": [{**user, "content": user["content"] + HINT}], "completion": [message]}

    return Dataset.from_list([submit(row) for row in demonstrations.to_list()])
