import json
import math
import random

import pytest

from trl_amft.tasks.virl_geometry import (
    COMPASS,
    compass_word,
    distance_meters,
    heading_between,
    side_of,
    turn_angle,
    turn_word,
)
from trl_amft.tasks.virl_routes import load_routes, read_route
from trl_amft.tasks.virl_steps import ACTION_SPACES, FORWARD, STOP, instructions, positions, turn
from trl_amft.tasks.virl_synthetic import synthetic_routes


# A route as the public data writes it: no JSON in the blocks, quotes in a name, degrees with a word.
BLOCKS = """
{
"intersection_idx": "0",
"landmarks": "No landmark nearby",
"distance": "110 meters",
"human_heading": "88 (east)",
"to_next_intersection_heading": "88 (east)",
}
{
"intersection_idx": "1",
"landmarks": "Joe's "Best": Pizza, 2nd is on your left",
"distance": "95 meters",
"human_heading": "88 (east)",
"to_next_intersection_heading": "92 (east)",
}
{
"intersection_idx": "2",
"landmarks": "Blue Tower is on your right.",
"distance": "40 meters",
"human_heading": "92 (east)",
"to_next_intersection_heading": "357 (north)",
}
"""


def record(**changes) -> dict:
    route = {
        "start_place": {"name": "A", "geocode": [40.0, -73.0], "relocated_geocode": [40.1, -73.1]},
        "dest_place": {"name": "B", "geocode": [40.2, -73.0]},
        "init_heading": 350,
        "milestone_info": BLOCKS,
        "route_results": {"geocode_list": [[40.1, -73.0], [40.1, -72.9], [40.2, -72.9]], "landmark_list": []},
    }
    return {**route, **changes}


def write(path, routes) -> str:
    path.write_text(json.dumps([routes, len(routes)]))
    return str(path)


@pytest.fixture(scope="module")
def records():
    return synthetic_routes(300, seed=1)


class TestGeometry:
    @pytest.mark.parametrize(
        ("north", "east", "heading"),
        [
            *((1, 0, 0), (1, 1, 45), (0, 1, 90), (-1, 1, 135)),
            *((-1, 0, 180), (-1, -1, 225), (0, -1, 270), (1, -1, 315)),
            *((2, 1, 26.57), (-2, 1, 153.43), (-2, -1, 206.57), (2, -1, 333.43)),
        ],
    )
    @pytest.mark.parametrize("start", [(0.0, 0.0), (48.0, 11.0), (-33.9, 151.2), (10.0, 179.9999), (10.0, -179.9999)])
    def test_headings_in_all_quadrants(self, start, north, east, heading):
        step = 0.001
        longitude = start[1] + step * east / math.cos(math.radians(start[0]))
        end = (start[0] + step * north, (longitude + 180) % 360 - 180)
        assert turn_angle(heading, heading_between(start, end)) == pytest.approx(0, abs=0.05)
        assert distance_meters(start, end) == pytest.approx(111.32 * math.hypot(north, east), rel=1e-3)

    @pytest.mark.parametrize(
        ("before", "after", "angle"),
        [(350, 10, 20), (10, 350, -20), (0, 180, 180), (180, 0, 180), (0, 181, -179), (359, 0, 1), (90, 90, 0)],
    )
    def test_angles_wrap_around(self, before, after, angle):
        assert turn_angle(before, after) == angle
        assert turn_angle(before + 360, after - 720) == angle

    @pytest.mark.parametrize("start", range(0, 360, 15))
    @pytest.mark.parametrize(
        ("angle", "word"),
        [
            *((0, None), (10, None), (-10, None), (11, "slightly right"), (-11, "slightly left")),
            *((45, "slightly right"), (-45, "slightly left"), (46, "right"), (-46, "left")),
            *((90, "right"), (-90, "left"), (179, "right"), (-179, "left"), (180, "right")),
        ],
    )
    def test_turns_do_not_depend_on_where_north_is(self, start, angle, word):
        assert turn_word(start, (start + angle) % 360) == word

    def test_compass(self):
        assert [compass_word(heading) for heading in range(0, 360, 45)] == list(COMPASS)
        assert [compass_word(heading) for heading in (22, 23, 337, 338, 359.9)] == [
            *("north", "northeast", "northwest", "north", "north"),
        ]

    def test_sides(self):
        assert side_of(0, 90) == side_of(350, 80) == side_of(180, 270) == "on your right"
        assert side_of(10, 280) == "on your left" and side_of(270, 270) == "ahead of you"
        assert side_of(270, 90) == "behind you" and side_of(350, 35) == "ahead of you on your right"


class TestSchema:
    def test_file_of_the_public_schema(self, tmp_path):
        (route,) = load_routes(write(tmp_path / "routes.json", [record()]))
        assert route.start == (40.1, -73.1) and route.init_heading == 350
        assert [(leg.heading, leg.direction, leg.landmark) for leg in route.legs] == [
            (88, "east", None),
            (92, "east", 'Joe\'s "Best": Pizza, 2nd is on your left'),
            (357, "north", "Blue Tower is on your right"),
        ]
        assert route.legs[2].end == (40.2, -72.9)

    def test_what_may_be_missing(self):
        route = record(start_place={"geocode": [1, 2]})
        del route["init_heading"], route["dest_place"]
        assert read_route(route)[:2] == ((1.0, 2.0), 0)

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"milestone_info": None}, "milestone_info=None is not text with one block per leg"),
            ({"milestone_info": " "}, "milestone_info=' ' is not text"),
            ({"milestone_info": BLOCKS.replace("}", "")}, r"milestone_info has '.*' outside of its \{\.\.\.\} blocks"),
            ({"milestone_info": "Go north. " + BLOCKS}, r"milestone_info has 'Go north\.' outside"),
            ({"milestone_info": BLOCKS.split("}")[0] + "}"}, "milestone_info has 1 blocks, but geocode_list has 3"),
            ({"milestone_info": "{ }" + BLOCKS}, "block 0 has the line ''"),
            ({"milestone_info": BLOCKS.replace('"distance": "95', '"distance" "95')}, "block 1 has the line '\"dist"),
            ({"milestone_info": BLOCKS.replace("92 (east)", "east")}, "block 1 has .*='east', expected degrees and"),
            ({"milestone_info": BLOCKS.replace("92 (east)", "92 (leftish)")}, r"block 1 has .*='92 \(leftish\)'"),
            ({"milestone_info": BLOCKS.replace("92 (east)", "392 (east)")}, r"block 1 has .*='392 \(east\)'"),
            ({"milestone_info": BLOCKS.replace("to_next_inter", "inter")}, "block 0 has .*=None, expected"),
            (
                {"milestone_info": BLOCKS.replace("357 (north)", "264 (north)")},
                "block 2 has .*whose word is another dir",
            ),
            ({"init_heading": "north"}, "init_heading='north' is not a number of degrees"),
            ({"init_heading": math.inf}, "init_heading=inf is not a number of degrees"),
            ({"start_place": {}}, r"start_place has the geocode None, expected \[latitude, longitude\]"),
            ({"start_place": None}, "start_place has the geocode None"),
            ({"route_results": {}}, "route_results has no geocode_list"),
            ({"route_results": {"geocode_list": [[1, 2], [3], [4, 5]]}}, r"geocode_list\[1\] has the geocode \[3\]"),
        ],
    )
    def test_malformed_routes_give_one_line_with_their_index(self, tmp_path, changes, problem):
        path = write(tmp_path / "routes.json", [record(), record(), record(**changes)])
        with pytest.raises(ValueError, match=rf"^routes='.*routes\.json': route 2: {problem}") as error:
            load_routes(path)
        assert "\n" not in str(error.value) and str(error.value).endswith("; correct it or take it out")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{", "is not JSON"),
            ("[]", r"must hold \[\[route, \.\.\.\], next_index\]"),
            ("[[], 0]", "must hold"),
            ("[{}, 1]", "must hold"),
            ("[[1], 1]", "route 0: expected a mapping, found int"),
        ],
    )
    def test_other_files(self, tmp_path, text, problem):
        (tmp_path / "routes.json").write_text(text)
        with pytest.raises(ValueError, match=rf"routes\.json':? {problem}"):
            load_routes(str(tmp_path / "routes.json"))

    def test_no_file(self, tmp_path):
        with pytest.raises(
            ValueError, match="cannot be read .No such file or directory.; give a file, or 'synthetic'"
        ):
            load_routes(str(tmp_path / "none.json"))


class TestSteps:
    def test_route_by_hand(self):
        route = read_route(record())
        assert instructions(route) == [
            "First, turn right to face east.",
            "Move forward until you reach the next intersection.",
            "Go straight ahead to the east.",
            'Move forward until you reach the next intersection where Joe\'s "Best": Pizza, 2nd is on your left.',
            "Turn left to face north.",
            "Move forward until you reach the destination where Blue Tower is on your right.",
        ]
        found = positions(route, random.Random(0))
        nodes = [position for position in found if position.kind != "between"]
        assert [(p.absolute, p.relative, p.heading, p.instruction, p.geocode) for p in nodes] == [
            ("turn_direction(east)", "turn_direction(right)", 350, 0, (40.1, -73.1)),
            ("forward()", "forward()", 88, 2, (40.1, -73.0)),
            ("turn_direction(north)", "turn_direction(left)", 92, 4, (40.1, -72.9)),
            ("stop()", "stop()", 357, 5, (40.2, -72.9)),
        ]
        assert [p.observation for p in nodes] == [
            "No landmarks nearby",
            "No landmarks nearby; You see an intersection",
            'Joe\'s "Best": Pizza, 2nd is on your left; You see an intersection',
            "Blue Tower is on your right",
        ]
        for position in found:
            if position.kind == "between":
                assert position.absolute == position.relative == FORWARD and position.instruction % 2

    def test_half_of_the_points_between_are_left_out(self):
        route = read_route(record())
        lengths = [len(positions(route, random.Random(seed))) - 4 for seed in range(400)]
        assert min(lengths) >= 0 and max(lengths) <= 15 and abs(sum(lengths) / 400 - 7.5) < 0.5


class TestSynthetic:
    def test_is_named_so(self, records):
        assert all(route["synthetic"] and route["route_id"].startswith("synthetic-") for route in records)

    def test_goes_through_a_file_of_the_schema(self, records, tmp_path):
        assert load_routes(write(tmp_path / "routes.json", records)) == list(map(read_route, records))

    def test_two_to_nine_nodes_none_twice(self, records):
        lengths = {len(read_route(route).legs) + 1 for route in records}
        assert lengths == set(range(2, 10))
        for route in map(read_route, records):
            places = [route.start, *(leg.end for leg in route.legs)]
            assert len(set(places)) == len(places)

    def test_headings_are_those_of_the_map(self, records):
        quadrants = set()
        for route in map(read_route, records):
            start = route.start
            for leg in route.legs:
                heading = heading_between(start, leg.end)
                assert abs(turn_angle(heading, leg.heading)) <= 0.5 + 1e-9
                assert leg.direction == compass_word(leg.heading)
                quadrants.add(leg.heading // 90)
                start = leg.end
        assert quadrants == {0, 1, 2, 3}

    @pytest.mark.parametrize("space", ["absolute", "relative"])
    def test_gold_actions_lead_to_the_destination(self, records, space):
        """A walker who knows the map and carries the actions out, and nothing else, arrives and stops there."""
        taken = set()
        for index, route in enumerate(map(read_route, records)):
            streets = {}
            start = route.start
            for leg in route.legs:
                streets[start] = leg.end
                start = leg.end
            here, heading, stopped = route.start, route.init_heading, False
            for position in positions(route, random.Random(index)):
                action = position.action(space)
                taken.add(action)
                assert not stopped
                if action == STOP:
                    stopped = True
                elif position.kind == "node":
                    to_next = heading_between(here, streets[here])
                    if action == FORWARD:
                        assert abs(turn_angle(heading, to_next)) <= 11
                    elif space == "absolute":
                        assert action == turn(compass_word(round(to_next)))
                    else:
                        assert action == turn(turn_word(heading, round(to_next)))
                        # Said on its own: what is to the right by the map is to the right by the word.
                        assert ("right" in action) == (turn_angle(heading, to_next) > 0)
                    here, heading = streets[here], round(to_next) % 360
                else:
                    assert action == FORWARD
            assert stopped and here == route.legs[-1].end
        assert taken == {FORWARD, STOP, *map(turn, ACTION_SPACES[space])}

    def test_streets_of_a_route_do_not_cross(self, records):
        def side(a, b, c):
            return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

        for route in map(read_route, records):
            places = [route.start, *(leg.end for leg in route.legs)]
            streets = list(zip(places, places[1:], strict=False))
            for first in range(len(streets)):
                for second in range(first + 2, len(streets)):
                    (a, b), (c, d) = streets[first], streets[second]
                    assert side(a, b, c) * side(a, b, d) > 0 or side(c, d, a) * side(c, d, b) > 0

    def test_seed(self, records):
        assert synthetic_routes(300, seed=1) == records and synthetic_routes(5, seed=1) == records[:5]
        assert synthetic_routes(5, seed=2) != records[:5]

    def test_destination_has_a_landmark_and_most_others_do(self, records):
        legs = [read_route(route).legs for route in records]
        assert all(route[-1].landmark for route in legs)
        before = [leg.landmark is not None for route in legs for leg in route[:-1]]
        assert 0.6 < sum(before) / len(before) < 0.8
