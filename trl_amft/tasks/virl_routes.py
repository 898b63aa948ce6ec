"""
Routes in the schema of the public V-IRL data, read from a file and checked.

A file is `[[route, …], next_index]`. A route has `start_place` with its geocode, `init_heading`, `route_results` with
a `geocode_list`, and `milestone_info`: text with one block `{…}` per leg, each with `to_next_intersection_heading`
(`"177 (south)"`) and `landmarks`, what is seen where the leg ends.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from .virl_geometry import COMPASS, Geocode, turn_angle


NO_LANDMARK = "No landmark nearby"
# Degrees between a heading and its word; half of it would be the nearest word.
LARGEST_MISNOMER = 45
HEADING_KEY = "to_next_intersection_heading"

_BLOCK = re.compile(r"\{([^{}]*)\}")
_LINE = re.compile(r"""["']?(\w+)["']?\s*:\s*["']?(.*?)["']?\s*,?""")
_HEADING = re.compile(r"\s*(\d{1,3})(?:\.\d+)?\s*\(\s*(\w+)\s*\)\s*", re.ASCII)


class Leg(NamedTuple):
    """From one intersection to the next: heading in degrees, its word, where it ends, and what is seen there."""

    heading: int
    direction: str
    end: Geocode
    landmark: str | None


class Route(NamedTuple):
    """Where a route starts, in degrees which way one looks there, and its legs."""

    start: Geocode
    init_heading: int
    legs: list[Leg]


def load_routes(path: str) -> list[Route]:
    """
    Read a route file.

    Args:
        path (`str`):
            JSON file in the schema above.

    Returns:
        `list[Route]`

    Raises:
        `ValueError`: one line that names the file, the index of the route and what is wrong in it.
    """
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"routes={path!r} cannot be read ({error.strerror}); give a file, or 'synthetic'") from None
    except ValueError as error:
        raise ValueError(f"routes={path!r} is not JSON ({error}); give a file of the public route schema") from None
    if not (isinstance(records, list) and records and isinstance(records[0], list) and records[0]):
        raise ValueError(f"routes={path!r} must hold [[route, ...], next_index] with at least one route")
    routes = []
    for index, record in enumerate(records[0]):
        try:
            routes.append(read_route(record))
        except ValueError as error:
            raise ValueError(f"routes={path!r}: route {index}: {error}; correct it or take it out") from None
    return routes


def read_route(record: dict[str, Any]) -> Route:
    """
    Check and bring together what the task needs of a route record.

    Args:
        record (`dict[str, Any]`):
            A route of the schema. A missing `init_heading` is north.

    Returns:
        [`Route`]

    Raises:
        `ValueError`: what is wrong, in one line.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected a mapping, found {type(record).__name__}")
    place = record.get("start_place")
    place = place if isinstance(place, dict) else {}
    start = _geocode("start_place", place.get("relocated_geocode", place.get("geocode")))
    heading = record.get("init_heading", 0)
    if type(heading) not in (int, float) or not math.isfinite(heading):
        raise ValueError(f"init_heading={heading!r} is not a number of degrees")
    results = record.get("route_results")
    ends = results.get("geocode_list") if isinstance(results, dict) else None
    if not isinstance(ends, list):
        raise ValueError("route_results has no geocode_list")
    blocks = _blocks(record.get("milestone_info"))
    if len(blocks) != len(ends):
        raise ValueError(f"milestone_info has {len(blocks)} blocks, but geocode_list has {len(ends)} entries")
    legs = []
    for index, (block, end) in enumerate(zip(blocks, ends, strict=True)):
        value = block.get(HEADING_KEY)
        found = _HEADING.fullmatch(str(value))
        if found is None or int(found[1]) > 360 or found[2] not in COMPASS:
            raise ValueError(f"block {index} has {HEADING_KEY}={value!r}, expected degrees and word, as '177 (south)'")
        if abs(turn_angle(int(found[1]), 45 * COMPASS.index(found[2]))) > LARGEST_MISNOMER:
            raise ValueError(f"block {index} has {HEADING_KEY}={value!r}, whose word is another direction")
        landmark = block.get("landmarks") or NO_LANDMARK
        seen = None if landmark.startswith("No landmark") else landmark.rstrip(".")
        legs.append(Leg(int(found[1]) % 360, found[2], _geocode(f"geocode_list[{index}]", end), seen))
    return Route(start, round(heading) % 360, legs)


def _geocode(name: str, value: Any) -> Geocode:
    if not (isinstance(value, list) and len(value) == 2 and all(type(part) in (int, float) for part in value)):
        raise ValueError(f"{name} has the geocode {value!r}, expected [latitude, longitude]")
    return float(value[0]), float(value[1])


def _blocks(info: Any) -> list[dict[str, str]]:
    if not isinstance(info, str) or not info.strip():
        raise ValueError(f"milestone_info={info!r} is not text with one block per leg")
    rest = _BLOCK.sub("", info).strip(" \t\r\n,[]")
    if rest:
        raise ValueError(f"milestone_info has {rest[:40]!r} outside of its {{...}} blocks")
    blocks = []
    for index, text in enumerate(_BLOCK.findall(info)):
        # The public text is not JSON: it has commas at the end of a block, and landmarks with quotes in them.
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        pairs = [pair for line in lines if (pair := _LINE.fullmatch(line))]
        if len(pairs) < len(lines) or not pairs:
            bad = next((line for line in lines if not _LINE.fullmatch(line)), "")
            raise ValueError(f'block {index} has the line {bad[:40]!r}, expected "key": "value"')
        blocks.append({pair[1]: pair[2] for pair in pairs})
    return blocks
