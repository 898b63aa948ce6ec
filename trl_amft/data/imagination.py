"""
Imagined conversations (arXiv 2311.05584): a language model invents a person, writes a dialogue with that person, and
judges how it ended. What the agent says becomes demonstrations, good and bad, each with the outcome as its reward.

The paper has no public code; the requests are written here. Its offline reinforcement learning (ILQL, with Q and V
heads) is out of scope: here the outcome weighs the supervised loss, see `demonstrations/weights.py`.
"""

import json
import re
from dataclasses import dataclass, fields
from typing import Any

from ..demonstrations.weights import WEIGHT, advantage_weights


# Who the model is in each of the three requests.
INVENTS = "You invent people. Answer with one JSON list of strings and nothing else."
WRITES = "You write dialogues. Answer with lines that begin with 'User: ' or 'Agent: ' and nothing else."
JUDGES = 'You judge dialogues. Answer with one JSON object {"reward": NUMBER, "reason": TEXT} and nothing else.'

PEOPLE_PER_REQUEST = 10


@dataclass(frozen=True)
class Scenario:
    """
    What is imagined.

    Args:
        situation (`str`):
            Who speaks with whom, about what.
        user (`str`):
            What users want, and what they know.
        agent (`str`):
            How the agent behaves; it should not always do well, because bad outcomes teach as well.
        goal (`str`):
            When the dialogue ends well, which is judged with a number from 0 to 1.
        system (`str`, *optional*, defaults to `""`):
            System message of the demonstrations.
    """

    situation: str
    user: str
    agent: str
    goal: str
    system: str = ""

    def __post_init__(self):
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, str) or (not value.strip() and entry.name != "system"):
                raise ValueError(f"scenario: {entry.name}={value!r} must be a text")


def people_request(scenario: Scenario, number: int) -> list[dict[str, str]]:
    """The request for the people numbered from `number` on, `PEOPLE_PER_REQUEST` of them."""
    text = (
        f"{scenario.situation}\nUsers: {scenario.user}\n\nInvent {PEOPLE_PER_REQUEST} users, as different from each "
        f"other as they can be, each in one sentence. These are numbers {number + 1} to "
        f"{number + PEOPLE_PER_REQUEST} of a longer list."
    )
    return _messages(INVENTS, text)


def dialogue_request(scenario: Scenario, person: str) -> list[dict[str, str]]:
    """The request for a dialogue with a person."""
    text = (
        f"{scenario.situation}\nUser: {scenario.user}\nThis user: {person}\nAgent: {scenario.agent}\n\nWrite their "
        "dialogue. The user speaks first, they take turns, and the agent has the last word."
    )
    return _messages(WRITES, text)


def judgement_request(scenario: Scenario, dialogue: list[dict[str, str]]) -> list[dict[str, str]]:
    """The request for the outcome of a dialogue."""
    text = f"{scenario.situation}\nGoal: {scenario.goal}\n\n{write_dialogue(dialogue)}\n\nHow well did it end, 0 to 1?"
    return _messages(JUDGES, text)


def _messages(system: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def write_dialogue(dialogue: list[dict[str, str]]) -> str:
    """The lines that [`read_dialogue`] reads."""
    names = {"user": "User", "assistant": "Agent"}
    return "\n".join(f"{names[message['role']]}: {message['content']}" for message in dialogue)


def read_people(text: str) -> list[str]:
    """
    Args:
        text (`str`):
            Answer to [`people_request`].

    Returns:
        `list[str]`: people, at least one.

    Raises:
        `ValueError`: if there is no list of texts in it.
    """
    found = _json(text, "[", "]")
    if not isinstance(found, list) or not found or not all(isinstance(person, str) for person in found):
        raise ValueError("no list of people")
    return found


def read_dialogue(text: str) -> list[dict[str, str]]:
    """
    Args:
        text (`str`):
            Answer to [`dialogue_request`].

    Returns:
        `list[dict[str, str]]`: messages, from the user's first to the agent's last.

    Raises:
        `ValueError`: if user and agent do not take turns.
    """
    parts = re.split(r"^(User|Agent):[ \t]*", text.strip(), flags=re.MULTILINE)
    roles = {"User": "user", "Agent": "assistant"}
    messages = [
        {"role": roles[name], "content": content.strip()}
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]
    expected = ["user", "assistant"] * (len(messages) // 2)
    if not messages or [message["role"] for message in messages] != expected or parts[0].strip():
        raise ValueError("no dialogue in turns that begins with the user and ends with the agent")
    if not all(message["content"] for message in messages):
        raise ValueError("somebody says nothing")
    return messages


def read_judgement(text: str) -> float:
    """
    Args:
        text (`str`):
            Answer to [`judgement_request`].

    Returns:
        `float`: in [0, 1].

    Raises:
        `ValueError`: if there is no such number in it.
    """
    found = _json(text, "{", "}")
    reward = found.get("reward") if isinstance(found, dict) else None
    if isinstance(reward, bool) or not isinstance(reward, (int, float)) or not 0.0 <= reward <= 1.0:
        raise ValueError("no reward in [0, 1]")
    return float(reward)


def _json(text: str, first: str, last: str) -> Any:
    start, end = text.find(first), text.rfind(last)
    try:
        return json.loads(text[start : end + 1]) if 0 <= start < end else None
    except (json.JSONDecodeError, RecursionError):
        return None


def demonstration_rows(
    dialogues: list[dict[str, Any]], system: str, temperature: float, largest: float
) -> list[dict[str, Any]]:
    """
    Every turn of the agent as a demonstration.

    Args:
        dialogues (`list[dict[str, Any]]`):
            In order, with `number`, `person`, `dialogue` and `reward`.
        system (`str`):
            System message, or nothing.
        temperature (`float`), largest (`float`):
            As in [`~trl_amft.demonstrations.weights.advantage_weights`].

    Returns:
        `list[dict[str, Any]]`: rows with `prompt`, `completion`, `reward`, `demonstration_weight`,
        `demonstration_source`, `dialogue`, `turn` and `person`.
    """
    weights = advantage_weights([entry["reward"] for entry in dialogues], temperature, largest)
    before = [{"role": "system", "content": system}] if system else []
    rows = []
    for entry, weight in zip(dialogues, weights, strict=True):
        for turn, message in enumerate(entry["dialogue"]):
            if message["role"] == "assistant":
                rows.append(
                    {
                        "prompt": [*before, *entry["dialogue"][:turn]],
                        "completion": [message],
                        "reward": entry["reward"],
                        WEIGHT: weight,
                        "demonstration_source": "imagined",
                        "dialogue": entry["number"],
                        "turn": turn // 2,
                        "person": entry["person"],
                    }
                )
    return rows
