"""Answers in V-IRL: the action that is read from them, its reward, and how far whole routes are solved."""

from typing import NamedTuple

from .json_answers import completion_text, read_object


KEYS = ("current observation", "current instruction", "action")
REWARD_SCALES = {"unit": (1.0, 0.0), "original": (1.0, -1.0)}

# A position counts as solved if one of so many graded answers is right.
ATTEMPTS = 2


def read_action(text: str, lenient: bool = True) -> str | None:
    """
    The action of an answer.

    Args:
        text (`str`):
            A completion, of any length and content.
        lenient (`bool`, *optional*, defaults to `True`):
            Read the last object of the text, of which only the action is required. Strictly, the text is one JSON
            object with the three keys and no other, all of them text.

    Returns:
        `str`, *optional*
    """
    answer = read_object(text, lenient)
    if answer is None or not isinstance(answer.get("action"), str):
        return None
    if not lenient and not (set(answer) == set(KEYS) and all(isinstance(value, str) for value in answer.values())):
        return None
    return answer["action"].strip() if lenient else answer["action"]


def virl_reward(
    completions: list, action: list[str], reward_scale: str = "unit", lenient: bool = True, **kwargs
) -> list[float]:
    """
    Whether the action is the right one, to the letter.

    Args:
        completions (`list`):
            One completion per prompt, plain or conversational.
        action (`list[str]`):
            The right actions, from the dataset's column.
        reward_scale (`str`, *optional*, defaults to `"unit"`):
            `"unit"`: 1 or 0. `"original"`: 1 or −1.
        lenient (`bool`, *optional*, defaults to `True`):
            See [`read_action`].

    Returns:
        `list[float]`
    """
    right, wrong = REWARD_SCALES[reward_scale]
    return [
        right if read_action(completion_text(completion), lenient) == gold else wrong
        for completion, gold in zip(completions, action, strict=True)
    ]


class RouteResult(NamedTuple):
    """
    Result of [`score_routes`].

    Args:
        step_accuracy (`float`):
            Share of positions whose first answer is right.
        route_success (`float`):
            Share of routes of which every position is solved within the graded attempts.
        num_steps (`int`), num_routes (`int`):
            What the shares are of.
    """

    step_accuracy: float
    route_success: float
    num_steps: int
    num_routes: int


def score_routes(
    answers: list[list], action: list[str], route: list[int], attempts: int = ATTEMPTS, lenient: bool = True
) -> RouteResult:
    """
    Per-step accuracy and route success.

    Args:
        answers (`list[list]`):
            For each position its completions, in the order in which they were given. Those beyond `attempts` are not
            graded.
        action (`list[str]`), route (`list[int]`):
            Columns of the data set: the right action, and which route the position belongs to.
        attempts (`int`, *optional*, defaults to `2`):
            Graded answers per position.
        lenient (`bool`, *optional*, defaults to `True`):
            See [`read_action`].

    Returns:
        [`RouteResult`]
    """
    if not answers or not all(answers):
        raise ValueError("answers must hold at least one completion for each position")
    first = 0
    solved: dict[int, bool] = {}
    for given, gold, number in zip(answers, action, route, strict=True):
        right = [read_action(completion_text(answer), lenient) == gold for answer in given[:attempts]]
        first += right[0]
        solved[number] = solved.get(number, True) and any(right)
    return RouteResult(first / len(answers), sum(solved.values()) / len(solved), len(answers), len(solved))
