"""What is sent of an object, and what is refused."""

import argparse
import collections
import enum
import pathlib
import weakref

import numpy
import pytest

torch = pytest.importorskip("torch")

from codec_judge import restored, round_trip  # noqa: E402
from sconce._capture import Storages, capture  # noqa: E402
from sconce._capture_storages import memory_at  # noqa: E402
from sconce._errors import InvalidArgumentError, SconceError  # noqa: E402
from sconce._manifest import decode  # noqa: E402


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


class OwnTensor(torch.Tensor):
    pass


def test_storages_are_the_live_memory():
    tensor = torch.zeros(1000)
    array = numpy.zeros(600)
    captured = capture({"tensor": tensor, "array": array})
    assert [len(storage) for storage in captured.storages] == [4000, 4800]
    assert all(storage.readonly and storage.itemsize == 1 for storage in captured.storages)
    tensor[0], array[1] = 1.0, 2.0
    assert bytes(captured.storages[0][:4]) == b"\x00\x00\x80\x3f"
    assert captured.storages[1][8:16] == numpy.float64(2).tobytes()
    assert numpy.frombuffer(captured.storages[0], numpy.uint8).ctypes.data == tensor.data_ptr()


def test_the_memory_outlives_the_object():
    captured = capture([torch.full((2000,), float(i)) for i in range(5)])
    assert [numpy.frombuffer(storage, "<f4")[1999] for storage in captured.storages] == [0, 1, 2, 3, 4]


def test_small_storages_are_copied_into_the_manifest():
    tensor = torch.ones(4)
    captured = capture(tensor)
    tensor.zero_()
    assert not captured.storages and torch.equal(restored(captured), torch.ones(4))


def test_a_small_view_does_not_drag_its_storage_along():
    base = torch.arange(1_000_000.0)
    captured = capture({"row": base[5000:6000]})
    assert [len(storage) for storage in captured.storages] == [4000]
    assert captured.storages[0] == numpy.arange(5000, 6000, dtype="<f4").tobytes()
    assert torch.equal(restored(captured)["row"], base[5000:6000])
    assert sum(map(len, capture({"row": base[5000:6000]}, keep_whole_storages=True).storages)) == 4_000_000


def test_views_keep_the_range_that_they_see_together():
    base = torch.arange(100_000.0)
    captured = capture({"a": base[1000:2000], "b": base[3000:3500:2], "c": base[1500:1600].view(10, 10).t(), "empty": base[99_999:99_999]})
    assert [len(storage) for storage in captured.storages] == [4 * 2499]
    again = restored(captured)
    assert torch.equal(again["b"], base[3000:3500:2]) and torch.equal(again["c"], base[1500:1600].view(10, 10).t())
    again["a"][500] = -1
    assert again["c"][0, 0] == -1


def test_a_range_begins_where_all_dtypes_can():
    raw = torch.zeros(8192, dtype=torch.uint8)
    value = {"bytes": raw[1001:3000], "doubles": raw.view(torch.float64)[300:400], "complex": torch.view_as_complex(raw.view(torch.float64).view(-1, 2))[100:101]}
    raw[1001:3000] = 7
    captured = capture(value)
    (storage,) = decode(captured.manifest_bytes).storages
    assert storage.size_bytes == -(-3200 // 16) * 16 - 1001 // 16 * 16
    again = restored(captured)
    assert all(torch.equal(again[key], value[key]) for key in value)


def test_a_bare_storage_is_whole():
    base = torch.arange(1000, dtype=torch.int32)
    storage = base.untyped_storage() if hasattr(base, "untyped_storage") else base.storage().untyped()
    assert [len(s) for s in capture({"view": base[:300], "storage": storage}).storages] == [4000]


def test_everything_that_cannot_be_stored_is_named_at_once():
    value = {
        "args": argparse.Namespace(lr=1), "a/b": [1, {"model": torch.nn.Linear(2, 2)}], 3: frozenset([1]), "color": Color.RED, "point": Point(1, 2),
        "path": pathlib.Path("x"), "default": collections.defaultdict(list), "call": len, "lambda": lambda: 1, "objects": numpy.array([None]),
        "fields": numpy.zeros(1, "i4,f4"), "own": torch.ones(2).as_subclass(OwnTensor), "generator": torch.Generator(), "set": {torch.ones(1)},
        (1, Color.RED): 1, "range": range(3), "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1),
        "ordered": collections.OrderedDict(a=1), "fine": torch.ones(2000),
    }
    value["ordered"].note = object()
    with pytest.raises(InvalidArgumentError) as caught:
        capture(value)
    message = str(caught.value)
    for line in ("at /args: argparse.Namespace: save vars(x)", "at /a~1b/1/model: torch.nn.modules.linear.Linear: save its state_dict()",
                 "at /3: frozenset: use a set or a list", "Color: save its .value", "Point: save it as tuple(x) or x._asdict()", "at /path: pathlib.",
                 "at /default: collections.defaultdict: save it as dict(x)", "at /call: builtin_function_or_method: len itself, code, is not stored",
                 "at /objects: numpy.ndarray:", "at /fields: numpy.ndarray:", "at /own: ", "as_subclass(torch.Tensor)", "at /generator: ", "get_state()",
                 "at /set/0: torch.Tensor: cannot be stored in a set", "at /range: range: save list(x)", "/optimizer: torch.optim.sgd.SGD: save its state_dict()",
                 "/ordered (its __dict__)/note: object:", "(a key)"):
        assert line in message, line
    assert "/fine" not in message and caught.value.reason == "FILE_UNSUPPORTED"
    assert "/args" in caught.value.metadata["paths"]


def test_very_many_offenders_are_counted():
    with pytest.raises(InvalidArgumentError, match="and 980 more"):
        capture([object() for _ in range(1000)])


def test_cycles_are_refused():
    cycle = {"a": [1]}
    cycle["a"].append(cycle)
    with pytest.raises(InvalidArgumentError, match="at /a/1: dict: contains itself"):
        capture(cycle)
    tensor = torch.ones(2)
    tensor.me = tensor
    with pytest.raises(InvalidArgumentError, match="contains itself"):
        capture([tensor])
    shared = [1]
    assert round_trip([shared, shared]) == [[1], [1]]  # which is none


def test_a_tensor_as_a_key_is_told_about_state_dict():
    with pytest.raises(InvalidArgumentError, match="optimizer.state_dict"):
        capture({torch.nn.Parameter(torch.ones(1)): {"step": 1}})


def test_too_many_objects(monkeypatch):
    monkeypatch.setattr("sconce._capture.MAX_RECORDS", 1000)
    with pytest.raises(SconceError, match="keep long lists of numbers in tensors") as caught:
        capture(list(range(1000)))
    assert caught.value.reason == "INPUT_LIMIT_EXCEEDED"


def test_an_item_of_another_device_is_copied_when_it_is_asked_for():
    """Of a device that is none: what matters is that it is copied once, and not kept for ever."""
    captured = capture([torch.ones(1000), torch.zeros(1000)])
    calls = []

    class Elsewhere:
        is_host = False

        def __init__(self, source):
            self.source = source

        def host_bytes(self):
            calls.append(self.source)
            return memoryview(bytes(self.source.host_bytes()))

    storages = Storages([Elsewhere(source) for source in captured.storages.sources])
    assert len(storages) == 2 and not calls
    assert storages[0] == captured.storages[0] and storages[0][:4] == b"\x00\x00\x80\x3f" and len(calls) == 1
    assert storages[1] == captured.storages[1] and len(calls) == 2
    assert storages[0] == captured.storages[0] and len(calls) == 3


def test_bytes_keep_alive_what_they_are_of():
    views = [capture([torch.full((2000,), float(i)) for i in range(5)]).storages[i] for i in range(5)]
    torch.zeros(2000)  # which would come to lie where the others were
    assert [view[4:8] for view in views] == [numpy.float32(i).tobytes() for i in range(5)]
    owner = numpy.arange(5)
    view = memory_at(owner.ctypes.data, owner.nbytes, owner)
    watched = weakref.ref(owner)
    del owner
    assert watched() is not None and bytes(view) == numpy.arange(5).tobytes()
    part = view[8:]
    del view
    assert watched() is not None
    del part
    assert watched() is None
