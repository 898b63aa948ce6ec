"""Prompts and right answers of V-IRL, for one position of a route."""

import json

from .virl_answers import KEYS
from .virl_geometry import COMPASS
from .virl_routes import Route
from .virl_steps import ACTION_SPACES, Position, instructions


INSTRUCTION = """\
You follow a route through a town on foot.
The route:
{route}
The actions:
forward() - go one step ahead
turn_direction(x) - turn and go one step, x being one of: {directions}
stop() - the destination is reached
What you have done so far:
{history}
{seen}
Answer with one JSON object with three keys: "current observation", what you see; "current instruction", the sentence \
of the route that is to be carried out now; "action", the next action, written as above."""

# The short form names directions and places by letters; see `short_prompt`.
LETTERS = dict(zip(COMPASS, ("N", "NE", "E", "SE", "S", "SW", "W", "NW"), strict=True))
PLACES = {"node": "c", "between": "f", "destination": "x"}


def chat_prompt(route: Route, walked: list[Position], space: str, shown: bool) -> list[dict[str, str]]:
    """
    A conversational prompt.

    Args:
        route ([`Route`]):
            The route.
        walked (`list[Position]`):
            Its positions up to the present one, which is the last.
        space (`str`):
            The action space.
        shown (`bool`):
            Whether a picture shows what is seen, now; what was seen before is left out then.

    Returns:
        `list[dict[str, str]]`: one user turn. The route in words is the same under both action spaces.
    """
    *before, here = walked
    done = [
        f"{number}. {'' if shown else f'{position.observation}: '}{position.action(space)}"
        for number, position in enumerate(before, 1)
    ]
    text = INSTRUCTION.format(
        route="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(instructions(route), 1)),
        directions=", ".join(ACTION_SPACES[space]),
        history="\n".join(done) or "Nothing yet.",
        seen="The picture shows what you see now." if shown else f"What you see now: {here.observation}.",
    )
    return [{"role": "user", "content": text}]


def short_prompt(route: Route, walked: list[Position], places: list[Position]) -> str:
    """
    A prompt of few characters, `"Eff,NWf;-,S;c>"`: the turns that were made, each with one `f` for every step after
    it; those that are left (`-` for straight ahead); and where one is: `c` at an intersection, `f` between two, `x` at
    the destination.

    Args:
        route ([`Route`]):
            The route.
        walked (`list[Position]`):
            Its positions up to the present one, which is the last.
        places (`list[Position]`):
            All its positions.

    Returns:
        `str`
    """
    *before, here = walked
    nodes = [position for position in places if position.kind == "node"]
    turns = [
        LETTERS[leg.direction] if position.absolute.startswith("turn") else "-"
        for leg, position in zip(route.legs, nodes, strict=True)
    ]
    made: list[str] = []
    for position in before:
        if position.kind == "node":
            made.append(turns[len(made)])
        else:
            made[-1] += PLACES["between"]
    return f"{','.join(made)};{','.join(turns[len(made) :])};{PLACES[here.kind]}>"


def write_answer(route: Route, position: Position, action: str, short: bool) -> str:
    """
    The JSON object of an answer.

    Args:
        route ([`Route`]):
            The route.
        position ([`Position`]):
            Where one is.
        action (`str`):
            The action, right or not.
        short (`bool`):
            Only the action, without spaces.

    Returns:
        `str`
    """
    if short:
        return json.dumps({"action": action}, separators=(",", ":"))
    values = (position.observation, instructions(route)[position.instruction], action)
    return json.dumps(dict(zip(KEYS, values, strict=True)))
