"""Freezing: what is frozen is captured as the object itself would have been, whatever is done to the object meanwhile; what may be refused is not frozen."""

import argparse
import collections
import gc
import random
import weakref

import numpy
import pytest

torch = pytest.importorskip("torch")

from codec_judge import load  # noqa: E402
from codec_support import fixture_files, name_of  # noqa: E402
from codec_trees import random_object  # noqa: E402
from sconce import _freeze  # noqa: E402
from sconce._capture import capture  # noqa: E402
from sconce._errors import SconceError  # noqa: E402
from sconce._freeze import freeze  # noqa: E402
from sconce._snapshot import LateSnapshot, take_snapshot  # noqa: E402


def training_state():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 40, 3).to(memory_format=torch.channels_last), torch.nn.BatchNorm2d(40), torch.nn.Linear(20, 30))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    base = torch.arange(10_000.0)
    return {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "epoch": 3, "loss": 0.5, "name": "épée",
        "rng": (torch.get_rng_state(), numpy.random.RandomState(1).get_state(), tuple(range(600))), "metrics": {"acc": numpy.float32(0.5)},
        "views": [base[5:600], base[800:9000:3], base[50:60]], "tied": [base, base], "parameters": list(model.parameters()), "dtype": torch.bfloat16,
        "leaf": torch.ones(700, requires_grad=True), "fortran": numpy.asfortranarray(numpy.arange(600.0).reshape(20, 30)), "raw": bytearray(b"abc"),
        "names": {"a", "b"}, "size": torch.Size([2, 3]), "device": torch.device("cpu"), "conj": torch.view_as_complex(torch.rand(300, 2)).conj(),
        "partly": numpy.arange(4000.0).reshape(40, 100)[::2, ::3], "empty": base[:0], "step": torch.tensor(7.0),
    }


def same(snapshot, captured):
    assert snapshot.manifest_bytes == captured.manifest_bytes
    assert list(snapshot.sizes) == captured.storages.sizes
    assert [bytes(storage) for storage in snapshot.storages] == [bytes(storage) for storage in captured.storages]


def test_what_training_saves_is_frozen():
    state = training_state()
    assert freeze(state) is not None
    with take_snapshot(state) as snapshot:
        assert type(snapshot) is LateSnapshot
        same(snapshot, capture(state))


def test_random_objects_are_captured_as_they_are():
    frozen = 0
    for seed in range(300):
        value = random_object(random.Random(seed), torch, numpy)
        with take_snapshot(value) as snapshot:
            frozen += type(snapshot) is LateSnapshot
            same(snapshot, capture(value))
    assert frozen > 50, "so that this tests something"


@pytest.mark.parametrize("path", fixture_files(), ids=name_of)
def test_files_of_pytorch_s_are_captured_as_they_are(path):
    if "evil" in path.name:
        pytest.skip("runs a command when it is loaded")
    try:
        value = load(path)
    except Exception as error:  # pylint: disable=broad-except  # whatever is missing here
        pytest.skip(f"PyTorch {torch.__version__} does not load it: {type(error).__name__}: {str(error)[:80]}")
    try:
        captured = capture(value)
    except SconceError:
        assert freeze(value) is None
        return
    with take_snapshot(value) as snapshot:
        same(snapshot, captured)


class OwnTensor(torch.Tensor):
    pass


class OwnDict(dict):
    pass


NOT_FROZEN = {
    "namespace": argparse.Namespace(lr=1), "module": torch.nn.Linear(2, 2), "frozenset": frozenset([1]), "function": len, "lambda": lambda: 1,
    "default": collections.defaultdict(list), "objects": numpy.array([None]), "fields": numpy.zeros(1, "i4,f4"), "own": torch.ones(2).as_subclass(OwnTensor),
    "generator": torch.Generator(), "set of tensors": {torch.ones(1)}, "tensor as a key": {torch.ones(1): 1}, "range": range(3), "own dict": OwnDict(),
    "void": numpy.zeros(1, "i4,f4")[0], "masked": numpy.ma.masked_array([1]), "point": collections.namedtuple("Point", "x y")(1, 2), "own key": {object(): 1},
}


@pytest.mark.parametrize("name", NOT_FROZEN)
@pytest.mark.parametrize("where", ["top", "deep", "attribute"])
def test_what_is_refused_is_not_frozen(name, where):
    """It is told at once, by name, and not by the thread that saves."""
    value = NOT_FROZEN[name]
    if where == "deep":
        value = {"w": torch.ones(3), "list": [1, (2, collections.OrderedDict(inner=value))]}
    elif where == "attribute":
        value, held = collections.OrderedDict(w=torch.ones(3)), value
        value.note = held
    assert freeze(value) is None
    with pytest.raises(SconceError, match="nothing was sent:\n  at .*: ") as caught:
        take_snapshot(value)
    assert where == "top" or ("inner" if where == "deep" else "note") in str(caught.value)


def test_cycles_and_depths_are_left_to_capture():
    cycle = {}
    cycle["a"] = [cycle]
    deep = []
    for _ in range(50_000):
        deep = [deep]
    assert freeze(cycle) is None and freeze(deep) is None
    with take_snapshot(deep) as snapshot:
        same(snapshot, capture(deep))


def test_so_are_objects_that_may_be_too_many(monkeypatch):
    monkeypatch.setattr(_freeze, "_MAX_NODES", 1000)
    assert freeze([1] * 990) is not None and freeze([1] * 1010) is None and freeze([dict.fromkeys("abcd")] * 100) is not None
    assert freeze([dict.fromkeys("abcd") for _ in range(100)]) is None and freeze(torch.Size(range(500))) is None


def changing_state():
    base = torch.arange(5000.0)
    inner = collections.OrderedDict(a=1)
    inner._metadata = {"version": 1}
    return {
        "base": base, "view": base[10:900], "leaf": torch.ones(700, requires_grad=True), "small": torch.ones(4), "moved": torch.nn.Parameter(torch.ones(900)),
        "shrunk": torch.ones(800), "turned": torch.arange(600.0).view(20, 30), "grown": torch.ones(300), "array": numpy.arange(500), "numbers": [1, 2],
        "inner": inner, "raw": bytearray(b"abc"), "tuple": ([1], 2),
    }


def change(state):
    with torch.no_grad():
        for name in ("base", "small", "leaf"):
            state[name].fill_(-1)
        state["turned"].t_()
        state["grown"].resize_(900)
    state["leaf"].requires_grad_(False)
    state["moved"].data = torch.zeros(3)
    shrunk = state["shrunk"]
    (shrunk.untyped_storage() if hasattr(shrunk, "untyped_storage") else shrunk.storage().untyped()).resize_(0)
    state["array"][:] = 0
    state["numbers"].append(3)
    state["inner"]["b"] = 2
    state["inner"]._metadata["version"] = 2
    state["raw"].append(0)
    state["tuple"][0].append(2)
    state["new"] = 1


def test_nothing_that_is_done_afterwards_shows():
    """Not what is done to tensors' values, nor to what they are views of, nor to containers and arrays."""
    expected = capture(changing_state())
    state = changing_state()
    with take_snapshot(state) as snapshot:
        assert type(snapshot) is LateSnapshot
        change(state)
        same(snapshot, expected)


def test_of_a_storage_only_what_is_seen_is_copied():
    base = torch.arange(1_000_000.0)
    frozen = freeze([base[5000:6000], base[7001:7002], base[:0]])
    (storage,) = frozen.storages.values()
    assert (storage.first, storage.end) == (20_000, 28_016)


@pytest.mark.parametrize("make", [capture, freeze, take_snapshot])
def test_nothing_keeps_the_object_alive(make):
    """Its memory is free as soon as nobody needs it, and not with the next collection of cycles."""
    tensor = torch.ones(1000)
    watched = weakref.ref(tensor)
    gc.disable()
    try:
        made = make({"w": tensor, "list": [torch.zeros(500)], "array": numpy.zeros(300)})
        if make is take_snapshot:
            made.manifest_bytes
            del tensor
            assert watched() is None, "the snapshot has its copy"
        tensor = None
        del made
        assert watched() is None
    finally:
        gc.enable()


def test_what_capture_refuses_is_not_kept_alive_either():
    tensor = torch.ones(1000)
    watched = weakref.ref(tensor)
    gc.disable()
    try:
        try:
            capture({"w": tensor, "bad": object()})
        except SconceError:
            pass
        del tensor
        assert watched() is None
    finally:
        gc.enable()


def test_storages_of_other_devices_are_copied_one_by_one():
    """Of a device that is none, as far as copying goes: that of the host."""
    base = torch.arange(5000.0)
    state = {"view": base[10:900], "whole": torch.ones(700), "small": torch.ones(3), "empty": torch.ones(600)[:0]}
    frozen = freeze(state)
    for storage in frozen.storages.values():
        storage.is_host = False
    with LateSnapshot(frozen) as snapshot:
        same(snapshot, capture(state))
