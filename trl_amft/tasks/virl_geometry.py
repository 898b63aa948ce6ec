"""Headings for navigation: degrees clockwise from north, compass words and turns, with angles that wrap around."""

import math


COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")

# Turns in words, from the size of the turn. Up to 45 degrees is "slightly", as in the public data; what counts as
# straight ahead is ours.
STRAIGHT = 10
SLIGHT = 45
TURNS = ("left", "right", "slightly left", "slightly right")

SIDES = (
    *("ahead of you", "ahead of you on your right", "on your right", "behind you on your right"),
    *("behind you", "behind you on your left", "on your left", "ahead of you on your left"),
)

METERS_PER_DEGREE = 111_320  # of latitude

Geocode = tuple[float, float]


def compass_word(heading: float) -> str:
    """The nearest of the eight words."""
    return COMPASS[round(heading / 45) % 8]


def turn_angle(heading: float, new_heading: float) -> float:
    """Degrees to turn, clockwise positive, above −180 and up to 180."""
    angle = (new_heading - heading) % 360
    return angle - 360 if angle > 180 else angle


def turn_word(heading: float, new_heading: float) -> str | None:
    """
    The turn from one heading to another in words.

    Args:
        heading (`float`), new_heading (`float`):
            Degrees.

    Returns:
        `str`, *optional*: one of `TURNS`; `None` where it is straight ahead. Right about is `"right"`.
    """
    angle = turn_angle(heading, new_heading)
    if abs(angle) <= STRAIGHT:
        return None
    side = "right" if angle > 0 else "left"
    return side if abs(angle) > SLIGHT else f"slightly {side}"


def side_of(heading: float, bearing: float) -> str:
    """Where something in direction `bearing` is for somebody who faces `heading`, one of `SIDES`."""
    return SIDES[round(turn_angle(heading, bearing) / 45) % 8]


def offset_meters(start: Geocode, end: Geocode) -> tuple[float, float]:
    """How far `end` is to the east and to the north of `start`, in meters. For distances within a town."""
    (latitude, longitude), (to_latitude, to_longitude) = start, end
    # The short way round where the longitude jumps from 180 to −180.
    east = (to_longitude - longitude + 180) % 360 - 180
    shrink = math.cos(math.radians((latitude + to_latitude) / 2))
    return east * shrink * METERS_PER_DEGREE, (to_latitude - latitude) * METERS_PER_DEGREE


def heading_between(start: Geocode, end: Geocode) -> float:
    """Heading from one (latitude, longitude) to another, in [0, 360)."""
    east, north = offset_meters(start, end)
    return math.degrees(math.atan2(east, north)) % 360


def distance_meters(start: Geocode, end: Geocode) -> float:
    """Distance between two (latitude, longitude)."""
    return math.hypot(*offset_meters(start, end))


def between(start: Geocode, end: Geocode, share: float) -> Geocode:
    """The point at a share of the way."""
    (latitude, longitude), (to_latitude, to_longitude) = start, end
    return latitude + share * (to_latitude - latitude), longitude + share * (to_longitude - longitude)
