"""What is made plain data before it is saved, and what is left for the save to refuse."""

import collections
import enum
import pathlib
import types

import numpy
import pytest
from sconce._plain import to_plain


class Level(enum.IntEnum):
    HIGH = 3


class Color(str, enum.Enum):
    RED = "red"


class Settings(dict):
    pass


class Whole(int):
    def __add__(self, other):
        return "wrong"


class Name(str):
    def __str__(self):
        return "wrong"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value, expected",
    [
        (Settings(a=Settings(b=1)), {"a": {"b": 1}}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Level.HIGH, 3),
        ({Level.HIGH: Color.RED}, {3: "red"}),
        (pathlib.Path("/a/b"), "/a/b"),
        (Point(1, Level.HIGH), (1, 3)),
        (frozenset([1, 2]), {1, 2}),
        (collections.deque([1, (Level.HIGH,)]), [1, (3,)]),
        (range(3), [0, 1, 2]),
        (types.SimpleNamespace(a=Level.HIGH), {"a": 3}),
        (Whole(5), 5),
        (Name("right"), "right"),
    ],
)
def test_converted(value, expected):
    made = to_plain(value)
    assert made == expected and type(made) is type(expected)
    if isinstance(expected, dict):
        assert [type(key) for key in made] == [type(key) for key in expected]


def test_what_is_plain_is_the_same_object():
    ordered = collections.OrderedDict(a=1)
    ordered._metadata = {"": {"version": 1}}
    for value in ([1, {"a": (2, "b")}], {"a": [1]}, (1, 2), ordered, numpy.float32(1), numpy.arange(3), object()):
        assert to_plain(value) is value


def test_an_ordered_dict_keeps_its_attributes():
    ordered = collections.OrderedDict(a=Level.HIGH)
    ordered._metadata = {"": {"version": 1}}
    made = to_plain(ordered)
    assert type(made) is collections.OrderedDict and made == {"a": 3} and made._metadata == ordered._metadata


def test_what_is_shared_stays_shared():
    shared = Settings(a=1)
    made = to_plain([shared, {"again": shared}])
    assert made[0] is made[1]["again"]


def test_a_cycle_ends():
    cycle = []
    cycle.append(cycle)
    assert to_plain(cycle) is cycle
