"""
From a route to what is decided on the way: one position after the other, each with one right action.

At an intersection one turns, or goes forward where it is straight ahead; between two intersections one goes forward;
at the destination one stops. After an action one is at the next position.
"""

import random
from typing import NamedTuple

from .virl_geometry import COMPASS, TURNS, Geocode, between, turn_word
from .virl_routes import Route


ACTION_SPACES = {"absolute": COMPASS, "relative": TURNS}
FORWARD, STOP = "forward()", "stop()"

# Points between two intersections, and the share of them that is left out.
POINTS_BETWEEN = 5
DROPPED = 0.5

NOTHING_SEEN = "No landmarks nearby"
INTERSECTION_SEEN = "You see an intersection"


class Position(NamedTuple):
    """
    Where one is, in degrees which way one looks, what is seen, the number of the instruction that counts (from 0), and
    the right action in both action spaces. `kind` is `"node"`, `"between"` or `"destination"`.
    """

    geocode: Geocode
    heading: int
    observation: str
    instruction: int
    absolute: str
    relative: str
    kind: str

    def action(self, space: str) -> str:
        """The right action in an action space."""
        return self.absolute if space == "absolute" else self.relative


def turn(direction: str) -> str:
    """The action that turns."""
    return f"turn_direction({direction})"


def instructions(route: Route) -> list[str]:
    """
    What the walker is told: two sentences per leg.

    Args:
        route ([`Route`]):
            The route.

    Returns:
        `list[str]`: `2 * len(route.legs)` sentences, the same under both action spaces.
    """
    told, heading = [], route.init_heading
    for number, leg in enumerate(route.legs):
        word = turn_word(heading, leg.heading)
        start = "First, " if number == 0 else ""
        sentence = f"{start}go straight ahead to the {leg.direction}."
        if word is not None:
            sentence = f"{start}turn {word} to face {leg.direction}."
        told.append(sentence[0].upper() + sentence[1:])
        goal = "the destination" if number == len(route.legs) - 1 else "the next intersection"
        told.append(f"Move forward until you reach {goal}{f' where {leg.landmark}' if leg.landmark else ''}.")
        heading = leg.heading
    return told


def positions(route: Route, rng: random.Random) -> list[Position]:
    """
    All positions of a route.

    Args:
        route ([`Route`]):
            The route.
        rng (`random.Random`):
            Decides which points between two intersections are left out.

    Returns:
        `list[Position]`: from the start to the destination.
    """
    found: list[Position] = []
    here, heading, seen = route.start, route.init_heading, NOTHING_SEEN
    for number, leg in enumerate(route.legs):
        word = turn_word(heading, leg.heading)
        absolute, relative = (FORWARD, FORWARD) if word is None else (turn(leg.direction), turn(word))
        found.append(Position(here, heading, seen, 2 * number, absolute, relative, "node"))
        for point in range(1, POINTS_BETWEEN + 1):
            if rng.random() >= DROPPED:
                place = between(here, leg.end, point / (POINTS_BETWEEN + 1))
                found.append(Position(place, leg.heading, NOTHING_SEEN, 2 * number + 1, FORWARD, FORWARD, "between"))
        here, heading = leg.end, leg.heading
        seen = f"{leg.landmark or NOTHING_SEEN}; {INTERSECTION_SEEN}"
    last = route.legs[-1]
    found.append(
        Position(here, heading, last.landmark or NOTHING_SEEN, 2 * len(route.legs) - 1, STOP, STOP, "destination")
    )
    return found
