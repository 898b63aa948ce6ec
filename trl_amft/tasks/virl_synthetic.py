"""
Synthetic routes: walks through invented towns, as records of the public route schema.

A town is a grid of crossings, each moved a little, joined along the rows, the columns and some diagonals, so that no
streets cross elsewhere. Landmarks have invented names. Nothing here is of a real place.
"""

import math
import random
from typing import Any

from .virl_geometry import (
    METERS_PER_DEGREE,
    Geocode,
    compass_word,
    distance_meters,
    heading_between,
    side_of,
)
from .virl_routes import HEADING_KEY, NO_LANDMARK


GRID = 6
BLOCK_METERS = 120
JITTER = 0.2  # of a block, so that no two streets of a crossing come to lie in the same direction
FEWEST_NODES, MOST_NODES = 2, 9
LANDMARK_SHARE = 0.7

FIRST_WORDS = (
    *(
        "Amber",
        "Birch",
        "Copper",
        "Dapple",
        "Elder",
        "Fern",
        "Gable",
        "Hazel",
        "Indigo",
        "Juniper",
        "Kestrel",
        "Larch",
    ),
    *("Marble", "Nettle", "Opal", "Pebble", "Quill", "Russet", "Saffron", "Thistle", "Umber", "Velvet", "Willow"),
)
SECOND_WORDS = (
    *("Bakery", "Bookshop", "Cinema", "Clinic", "Diner", "Fountain", "Garden", "Gallery", "Hotel", "Library"),
    *("Market", "Museum", "Pharmacy", "School", "Station", "Studio", "Theatre", "Tower"),
)


def synthetic_routes(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """
    Records of synthetic routes.

    Args:
        count (`int`):
            How many.
        seed (`int`, *optional*, defaults to `0`):
            Seed. A larger `count` continues the same list.

    Returns:
        `list[dict[str, Any]]`: routes of 2 to 9 nodes; `[routes, len(routes)]` is a file for
        [`~trl_amft.tasks.virl_routes.load_routes`].
    """
    return [_route(index, random.Random(f"virl {seed} {index}")) for index in range(count)]


def _route(index: int, rng: random.Random) -> dict[str, Any]:
    town = _town(rng)
    streets = _streets(rng)
    nodes = _walk(streets, rng.randint(FEWEST_NODES, MOST_NODES), rng)
    points = [town[node] for node in nodes]
    names = [f"{first} {second}" for first in FIRST_WORDS for second in SECOND_WORDS]
    names = rng.sample(names, len(nodes))
    blocks, landmarks = [], []
    for leg, (start, end) in enumerate(zip(points, points[1:], strict=False)):
        heading = round(heading_between(start, end)) % 360
        there = NO_LANDMARK
        # The destination always has one, because it is recognised by it.
        if leg == len(points) - 2 or rng.random() < LANDMARK_SHARE:
            there = f"{names[leg + 1]} is {side_of(heading, rng.randrange(360))}"
        landmarks.append(there)
        blocks.append(
            "{\n"
            f'"intersection_idx": "{leg}",\n'
            f'"landmarks": "{there}",\n'
            f'"distance": "{round(distance_meters(start, end))} meters",\n'
            f'"human_heading": "{heading} ({compass_word(heading)})",\n'
            f'"{HEADING_KEY}": "{heading} ({compass_word(heading)})",\n'
            "}"
        )
    return {
        "route_id": f"synthetic-{index}",
        "synthetic": True,
        "start_place": {"name": names[0], "geocode": list(points[0]), "relocated_geocode": list(points[0])},
        "dest_place": {"name": names[-1], "geocode": list(points[-1])},
        "init_heading": rng.randrange(360),
        "milestone_info": "\n".join(blocks),
        "route_results": {"geocode_list": [list(point) for point in points[1:]], "landmark_list": landmarks},
    }


def _town(rng: random.Random) -> dict[tuple[int, int], Geocode]:
    """Where the crossings are. Towns lie between 55 degrees south and north, where a degree east is not too short."""
    latitude, longitude = rng.uniform(-55, 55), rng.uniform(-179, 179)
    north = BLOCK_METERS / METERS_PER_DEGREE
    east = north / math.cos(math.radians(latitude))
    return {
        (row, column): (
            round(latitude + north * (row + rng.uniform(-JITTER, JITTER)), 6),
            round(longitude + east * (column + rng.uniform(-JITTER, JITTER)), 6),
        )
        for row in range(GRID)
        for column in range(GRID)
    }


def _streets(rng: random.Random) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Neighbours of each crossing. A square has one diagonal at most."""
    pairs = []
    for row in range(GRID):
        for column in range(GRID):
            pairs += [((row, column), (row + 1, column)), ((row, column), (row, column + 1))]
            if rng.random() < 0.5:
                pairs.append(
                    rng.choice([((row, column), (row + 1, column + 1)), ((row + 1, column), (row, column + 1))])
                )
    neighbours: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in pairs:
        if max(*a, *b) < GRID:
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    return neighbours


def _walk(
    streets: dict[tuple[int, int], list[tuple[int, int]]], length: int, rng: random.Random
) -> list[tuple[int, int]]:
    """A walk that meets no crossing twice; a dead end starts a new one."""
    while True:
        walk = [rng.choice(sorted(streets))]
        while len(walk) < length:
            open_streets = [crossing for crossing in streets[walk[-1]] if crossing not in walk]
            if not open_streets:
                break
            walk.append(rng.choice(open_streets))
        if len(walk) == length:
            return walk
