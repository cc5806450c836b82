"""Where restored storages go, which memory they are in, and what is not restored."""

import warnings

import numpy
import pytest

torch = pytest.importorskip("torch")

from codec_judge import described, fill, load, restored  # noqa: E402
from codec_support import DATA  # noqa: E402
from sconce._capture import capture  # noqa: E402
from sconce._errors import InvalidArgumentError  # noqa: E402
from sconce._manifest import decode, encode  # noqa: E402
from sconce._map_location import split  # noqa: E402
from sconce._nodes import Kind, Manifest, Node, Storage, TensorView  # noqa: E402
from sconce._restore import Restorer  # noqa: E402

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="these tests are about devices that are not there")

CUDA_MIXED = DATA / "cuda_mixed.pt"


def tagged(value, tags):
    """A captured object whose storages were saved on other devices."""
    captured = capture(value)
    manifest = decode(captured.manifest_bytes)
    assert len(tags) == len(manifest.storages)
    for storage, tag in zip(manifest.storages, tags):
        storage.device = tag
    return encode(manifest), captured.storages


def restore(manifest, storages, **options):
    restorer = Restorer(manifest, **options)
    fill(restorer, storages)
    return restorer.finish()


VALUE = {"a": torch.arange(600.0), "b": torch.arange(3), "c": torch.arange(2000.0), "d": torch.ones(2)}
TAGS = ["cuda:0", "cuda:1", "mps", "cpu"]


def test_buffers_are_the_tensors_memory():
    captured = capture({"weight": torch.arange(5000.0), "array": numpy.arange(700)})
    restorer = Restorer(captured.manifest_bytes)
    addresses = [numpy.frombuffer(buffer, numpy.uint8).ctypes.data for buffer in restorer.buffers]
    assert [len(buffer) for buffer in restorer.buffers] == [20_000, 5600] and not any(buffer.readonly for buffer in restorer.buffers)
    fill(restorer, captured.storages)
    again = restorer.finish()
    assert [again["weight"].data_ptr(), again["array"].ctypes.data] == addresses
    del restorer
    assert torch.equal(again["weight"], torch.arange(5000.0)) and again["array"][699] == 699


def test_absent_devices_fall_back_to_the_cpu_with_one_warning():
    manifest, storages = tagged(VALUE, TAGS)
    with pytest.warns(UserWarning) as caught:
        again = restore(manifest, storages)
    assert len(caught) == 1 and "lacks cuda:0, cuda:1, mps" in str(caught[0].message)
    assert described(again) == described(VALUE)


@pytest.mark.parametrize("location", ["cpu", torch.device("cpu"), {"cuda:0": "cpu", "cuda:1": "cpu", "mps": torch.device("cpu")}, lambda storage, tag: storage])
def test_no_warning_when_the_caller_chose(location):
    manifest, storages = tagged(VALUE, TAGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert described(restore(manifest, storages, map_location=location)) == described(VALUE)


@pytest.mark.parametrize("location", ["cuda:0", "cuda", torch.device("cuda", 1), {"cpu": "cuda:0"}, "gpu", "tpu:x", {"cuda:1": "nowhere"}, lambda storage, tag: storage.cuda()],
                         ids=str)
def test_a_device_that_is_asked_for_must_be_there(location):
    """With the very sentence that torch.load has for it."""
    manifest, storages = tagged(VALUE, TAGS)
    with pytest.raises(Exception) as ours:
        restore(manifest, storages, map_location=location)
    with pytest.raises(Exception) as theirs:
        load(CUDA_MIXED, map_location=location if not isinstance(location, dict) else {**{tag: "cpu" for tag in TAGS}, **location})
    assert type(ours.value) is type(theirs.value) and str(ours.value) == str(theirs.value)


def test_tags_that_the_server_was_asked_for_are_asked_for():
    manifest, storages = tagged(VALUE, TAGS)
    with pytest.raises(Exception, match="CUDA device"):
        restore(manifest, storages, demanded=["cuda:1"])


def test_callables_see_what_torch_load_shows_them():
    seen = {}

    def watch(into):
        def location(storage, tag):
            into.append((type(storage).__name__, tag, storage.nbytes(), storage.device.type, bytes(storage.tolist()) if storage.nbytes() < 5000 else None))
            return storage

        return location

    value = load(CUDA_MIXED, map_location=watch(seen.setdefault("theirs", [])))
    captured = capture(value, keep_whole_storages=True)
    manifest = decode(captured.manifest_bytes)
    for storage, call in zip(manifest.storages, seen["theirs"]):
        storage.device = call[1]
    again = restore(encode(manifest), captured.storages, map_location=watch(seen.setdefault("ours", [])))
    assert seen["ours"] == seen["theirs"] and {call[1] for call in seen["ours"]} > {"cpu", "cuda:0"}
    assert described(again) == described(value)


def test_a_callable_that_gives_none_means_as_saved():
    manifest, storages = tagged(VALUE, TAGS)
    with pytest.warns(UserWarning, match="cuda:0, cuda:1, mps"):
        assert described(restore(manifest, storages, map_location=lambda storage, tag: None)) == described(VALUE)


def test_to_the_meta_device():
    """The only other device that every host has."""
    manifest, storages = tagged(VALUE, TAGS)
    restorer = Restorer(manifest, map_location="meta")
    fill(restorer, storages)
    for number in range(len(restorer.buffers)):
        restorer.complete(number)
    try:
        load(CUDA_MIXED, map_location="meta")
    except Exception as error:  # pylint: disable=broad-except  # old releases cannot make a tensor of such a storage
        with pytest.raises(Exception, match=str(error)[:20]):
            restorer.finish()
        return
    again = restorer.finish()
    assert all(tensor.device.type == "meta" for tensor in again.values()) and again["a"].shape == (600,)
    assert not restorer._hosts or all(not restorer.manifest.storages[index].is_bulk for index in restorer._hosts)


def test_what_of_a_map_location_the_server_can_do():
    assert split(None)[:3] == ("", {}, None)
    assert split("cuda:1")[:3] == ("cuda:1", {}, None) and split("cuda:1").demanded == {"cuda:1"}
    assert split(torch.device("cuda", 0)).device == "cuda:0"
    assert split({"cuda:0": torch.device("cpu")}).remap == {"cuda:0": "cpu"}
    location = lambda storage, tag: storage  # noqa: E731
    assert split(location)[:3] == ("", {}, location)


def test_arrays_stay_where_arrays_are():
    """Their data has a device tag as any storage has, and a server maps it too."""
    manifest, storages = tagged({"array": numpy.arange(600)}, ["cuda:0"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert restore(manifest, storages)["array"][599] == 599


def test_dtypes_that_this_pytorch_lacks(monkeypatch):
    captured = capture({"a": torch.ones(3, dtype=torch.bfloat16), "list": [torch.ones(2), torch.nn.Parameter(torch.ones(700, dtype=torch.bfloat16))],
                        "dtype": torch.float16})
    monkeypatch.delattr(torch, "bfloat16")
    monkeypatch.delattr(torch, "float16")
    with pytest.raises(InvalidArgumentError) as caught:
        Restorer(captured.manifest_bytes)
    message = str(caught.value)
    assert "lacks the dtypes bfloat16, float16" in message and "newer PyTorch" in message
    assert all(f"at {path}" in message for path in ("/a: bfloat16", "/list/1: bfloat16", "/dtype: float16")) and "/list/0" not in message
    assert caught.value.metadata["dtypes"] == "bfloat16, float16"


def test_only_listed_classes_are_imported():
    storage = Storage(4, "cpu", b"\x00" * 4)
    nodes = [Node(Kind.TENSOR, tensor=0), Node(Kind.TUPLE, children=(0,)), Node(Kind.DICT), Node(Kind.TENSOR_SUBCLASS, "subprocess.Popen", (1, 2))]
    manifest = encode(Manifest(nodes, [TensorView("float32", (1,), (1,), 0)], [storage]))
    with pytest.raises(InvalidArgumentError, match="subprocess.Popen, which is not imported"):
        Restorer(manifest).finish()


def test_what_cannot_be_made_is_named():
    nodes = [Node(Kind.STR, "w"), Node(Kind.TENSOR, tensor=0), Node(Kind.PARAMETER, True, (1,)), Node(Kind.DICT, children=(0, 2))]
    manifest = encode(Manifest(nodes, [TensorView("int64", (1,), (1,), 0)], [Storage(8, "cpu", b"\x00" * 8)]))
    with pytest.raises(InvalidArgumentError, match="at /w: this parameter cannot be made here: .*floating point"):
        Restorer(manifest).finish()


def test_shards_become_the_whole_tensor():
    def ints(nodes, kind, numbers):
        first = len(nodes)
        nodes += [Node(Kind.INT, number) for number in numbers]
        nodes.append(Node(kind, children=tuple(range(first, first + len(numbers)))))
        return len(nodes) - 1

    whole = torch.arange(12, dtype=torch.uint8).view(4, 3)
    nodes, children, tensors, storages = [], [], [], []
    children.append(ints(nodes, Kind.SIZE, [4, 3]))
    for first, last in ((0, 1), (1, 4)):
        part = whole[first:last].clone()
        children += [ints(nodes, Kind.TUPLE, [first, 0]), ints(nodes, Kind.TUPLE, part.shape), len(nodes) + 0]
        children[-1] = len(nodes)
        nodes.append(Node(Kind.TENSOR, tensor=len(tensors)))
        tensors.append(TensorView("uint8", tuple(part.shape), (3, 1), len(storages)))
        storages.append(Storage(part.numel(), "cpu", part.numpy().tobytes()))
    nodes.append(Node(Kind.SHARDED_TENSOR, children=tuple(children)))
    assert torch.equal(Restorer(encode(Manifest(nodes, tensors, storages))).finish(), whole)
    nodes[-1] = Node(Kind.SHARDED_TENSOR, children=tuple(children[:4]))
    used = Manifest([*nodes, Node(Kind.LIST, children=tuple(children[4:]) + (len(nodes) - 1,))], tensors, storages)
    with pytest.raises(InvalidArgumentError, match="some shards are missing"):
        Restorer(encode(used)).finish()


def test_a_storage_that_arrays_and_tensors_see():
    nodes = [Node(Kind.STR, "<i2"), Node(Kind.INT, 600), Node(Kind.TUPLE, children=(1,)), Node(Kind.BOOL, False), Node(Kind.STORAGE, "untyped", storage=0),
             Node(Kind.NUMPY_ARRAY, children=(0, 2, 3, 4)), Node(Kind.TENSOR, tensor=0), Node(Kind.LIST, children=(5, 6))]
    manifest = encode(Manifest(nodes, [TensorView("int16", (600,), (1,), 0)], [Storage(1200)]))
    array, tensor = restore(manifest, [numpy.arange(600, dtype="<i2").tobytes()])
    assert array[599] == 599 and tensor[599] == 599


def test_a_bare_storage_comes_back_as_torch_load_gives_it():
    tensor = torch.arange(4, dtype=torch.int16)
    storage = tensor._typed_storage() if hasattr(tensor, "_typed_storage") else tensor.storage()
    again = restored(capture({"storage": storage, "tensor": tensor}))
    assert type(again["storage"]) is type(storage) and again["storage"].dtype == torch.int16 and list(again["storage"]) == [0, 1, 2, 3]
    again["tensor"][0] = 9
    assert again["storage"][0] == 9


def test_tensors_of_devices_without_storages_move_as_a_whole(monkeypatch):
    """Of a device that this host does not have: what is shown to PyTorch is judged, not what it makes of it."""
    manifest, storages = tagged([torch.arange(600.0), torch.ones(2)], ["xla:1", "cpu"])
    with pytest.warns(UserWarning, match="lacks xla:1:"):
        assert torch.equal(restore(manifest, storages)[0], torch.arange(600.0))
    assert torch.equal(restore(manifest, storages, map_location="cpu")[0], torch.arange(600.0))
    moved = []
    monkeypatch.setattr("sconce._map_location.Placer.has", lambda placer, tag: True)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: moved.append((device, tensor[5].item())) or tensor.clone())
    again = restore(manifest, storages)
    assert moved == [("xla:1", 5.0)] and torch.equal(again[0], torch.arange(600.0))


def test_a_storage_that_was_moved_frees_its_memory_on_the_host():
    """With the meta device as the other one, where it takes tensors."""
    manifest, storages = tagged({"a": torch.arange(600.0), "array": numpy.arange(700)}, ["cuda:0", "cpu"])
    restorer = Restorer(manifest, map_location="meta")
    fill(restorer, storages)
    assert len(restorer._hosts) == 2
    restorer.complete(0)
    restorer.complete(1)
    assert list(restorer._hosts) == [1] and restorer._placed[0].device.type == "meta"
