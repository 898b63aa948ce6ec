"""
Twenty questions with eight things and three questions, as a conversation.

The user thinks of a thing. The agent asks whether it lives, moves and is big, in any order, and names it. Prompts hold
the three answers; the completion is the name. Demonstrations are dialogues that were imagined, some of them with a
wrong name: those of `scripts/imagine.py`, or such that are scripted here.
"""

import json
import random
from itertools import permutations
from typing import Any

from datasets import Dataset

from ..demonstrations.weights import WEIGHT, advantage_weights
from .json_rows import read_json_rows
from .task import Task


QUESTIONS = ("lives?", "moves?", "big?")
# Answers to the three questions.
THINGS = {
    "cow": (True, True, True),
    "ant": (True, True, False),
    "elm": (True, False, True),
    "ivy": (True, False, False),
    "bus": (False, True, True),
    "toy": (False, True, False),
    "hut": (False, False, True),
    "cup": (False, False, False),
}
ORDERS = list(permutations(range(len(QUESTIONS))))
OPENING = "guess"
# Of the weights of scripted dialogues.
WEIGHT_TEMPERATURE, LARGEST_WEIGHT = 0.25, 5.0


def play(thing: str, order: tuple[int, ...], guess: str) -> list[dict[str, str]]:
    """
    A whole dialogue.

    Args:
        thing (`str`):
            What the user thinks of, a key of `THINGS`.
        order (`tuple[int, ...]`):
            In which the questions are asked.
        guess (`str`):
            What the agent says in the end.

    Returns:
        `list[dict[str, str]]`: messages of user and assistant in turns.
    """
    messages = [{"role": "user", "content": OPENING}]
    for number in order:
        messages.append({"role": "assistant", "content": QUESTIONS[number]})
        messages.append({"role": "user", "content": "yes" if THINGS[thing][number] else "no"})
    return [*messages, {"role": "assistant", "content": guess}]


def script(number: int, quality: float, seed: int = 0) -> tuple[list[dict[str, str]], float]:
    """
    A dialogue as a careless agent leads it.

    Args:
        number (`int`):
            Of the dialogue.
        quality (`float`):
            Probability that the agent names the right thing, in [0, 1].
        seed (`int`, *optional*, defaults to `0`):
            With the number, all that it depends on.

    Returns:
        `tuple[list[dict[str, str]], float]`: messages, and 1.0 if the thing was named, else 0.0.
    """
    rng = random.Random(f"twenty questions {seed} {number}")
    thing, order = rng.choice(list(THINGS)), rng.choice(ORDERS)
    wrong = rng.choice([name for name in THINGS if name != thing])
    right = rng.random() < quality
    return play(thing, order, thing if right else wrong), float(right)


def name_reward(completions: list[list[dict[str, str]]], thing: list[str], **kwargs) -> list[float]:
    """
    Reward of the task.

    Args:
        completions (`list[list[dict[str, str]]]`):
            What the agent says, as messages.
        thing (`list[str]`):
            What it should have named.

    Returns:
        `list[float]`: 1.0 for the thing, else 0.0. White space around it, which chat templates add, does not count.
    """
    return [float(said[-1]["content"].strip() == name) for said, name in zip(completions, thing, strict=True)]


def load_twenty_questions(
    dialogues: str | None = None,
    scripted: int = 400,
    demonstration_quality: float = 0.5,
    weighted: bool = True,
    seed: int = 0,
) -> Task:
    """
    Twenty questions, see the head of this file. Held out is one order of the questions for each thing; demonstrations
    that name something after it are left out.

    Args:
        dialogues (`str`, *optional*):
            File of `scripts/imagine.py`. Scripted dialogues if not given.
        scripted (`int`, *optional*, defaults to `400`):
            Number of scripted dialogues.
        demonstration_quality (`float`, *optional*, defaults to `0.5`):
            Share of them in which the right thing is named.
        weighted (`bool`, *optional*, defaults to `True`):
            Whether demonstrations keep their weights.
        seed (`int`, *optional*, defaults to `0`):
            Of the scripted dialogues.

    Returns:
        `Task`: columns `"prompt"` (messages) and `"thing"`; demonstrations with `"demonstration_weight"`.
    """
    if scripted < 1:
        raise ValueError(f"scripted={scripted} must be at least 1")
    if not 0.0 <= demonstration_quality <= 1.0:
        raise ValueError(f"demonstration_quality={demonstration_quality} must lie between 0 and 1")
    if dialogues is None:
        played = [script(number, demonstration_quality, seed) for number in range(scripted)]
        weights = advantage_weights([reward for _, reward in played], WEIGHT_TEMPERATURE, LARGEST_WEIGHT)
        demonstrations = Dataset.from_list(
            [
                row
                for (messages, reward), weight in zip(played, weights, strict=True)
                for row in _turns(messages, reward, weight)
            ]
        )
    else:
        demonstrations = read_json_rows("dialogues", dialogues, "make one with scripts/imagine.py")
        if missing := {"prompt", "completion", WEIGHT} - set(demonstrations.column_names):
            raise ValueError(
                f"dialogues={dialogues!r} has no column {min(missing)!r}; make it with scripts/imagine.py"
            )
    if not weighted:
        demonstrations = demonstrations.remove_columns(WEIGHT)
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for index, thing in enumerate(THINGS):
        for number, order in enumerate(ORDERS):
            prompt = play(thing, order, thing)[:-1]
            rows[number == index % len(ORDERS)].append({"prompt": prompt, "thing": thing})
    held_out = {_said(row["prompt"]) for row in rows[True]}
    shown = [_said(prompt) not in held_out for prompt in demonstrations["prompt"]]
    demonstrations = demonstrations.select([index for index, kept in enumerate(shown) if kept])
    return Task(
        train_dataset=Dataset.from_list(rows[False]),
        held_out_dataset=Dataset.from_list(rows[True]),
        reward_funcs=[name_reward],
        demonstration_dataset=demonstrations,
    )


def _said(prompt: list[dict[str, str]]) -> str:
    """Without the system message that a scenario may put before the dialogue."""
    return json.dumps([turn for turn in prompt if turn["role"] != "system"], sort_keys=True)


def _turns(messages: list[dict[str, str]], reward: float, weight: float) -> list[dict[str, Any]]:
    return [
        {
            "prompt": messages[:turn],
            "completion": [message],
            "reward": reward,
            WEIGHT: weight,
            "demonstration_source": "right" if reward else "wrong",
        }
        for turn, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
