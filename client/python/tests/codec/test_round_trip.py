"""Objects of all kinds, captured and restored: every file by a real PyTorch that this one can load, and random ones."""

import collections
import random
import subprocess
import sys

import numpy
import pytest

torch = pytest.importorskip("torch")

from codec_judge import described, load, restored, round_trip  # noqa: E402
from codec_trees import random_object  # noqa: E402
from codec_support import SOURCE, fixture_files, name_of, shared_fixtures  # noqa: E402
from sconce._capture import capture  # noqa: E402
from sconce._errors import InvalidArgumentError  # noqa: E402
from sconce._manifest import decode, encode  # noqa: E402
from sconce._nodes import Kind  # noqa: E402

# Code, not data.
NOT_STORED = {"bnnet_scripted_train_mode.pt", "bnnet_traced.pt", "whole_model.pt", "refused_frozenset.pt", "refused_object.pt", "refused_structured.pt"}
PATHS = fixture_files()


def test_the_fixtures_are_there():
    if shared_fixtures() is None:
        pytest.skip("no shared fixtures beside the checkout (SCONCE_SHARED_DIR): only the repository's own files were tried")
    assert len(PATHS) > 100


@pytest.mark.parametrize("path", PATHS, ids=map(name_of, PATHS))
def test_a_file_of_pytorch_s(path):
    if "evil" in path.name:
        pytest.skip("runs a command when it is loaded")
    if path.name == "refused_permuted.pt":
        pytest.skip("an array whose axes are permuted comes back with its elements in C order, as of older pickles")
    try:
        value = load(path)
    except Exception as error:  # pylint: disable=broad-except  # whatever is missing here
        pytest.skip(f"PyTorch {torch.__version__} does not load it: {type(error).__name__}: {str(error)[:80]}")
    if path.name in NOT_STORED:
        with pytest.raises(InvalidArgumentError, match="at the top: .*"):
            capture(value)
        return
    whole = capture(value, keep_whole_storages=True)
    assert encode(decode(whole.manifest_bytes)) == whole.manifest_bytes
    assert described(restored(whole)) == described(value)
    trimmed = capture(value)
    assert encode(decode(trimmed.manifest_bytes)) == trimmed.manifest_bytes
    assert described(restored(trimmed), offsets=False) == described(value, offsets=False)
    assert sum(map(len, trimmed.storages)) <= sum(map(len, whole.storages))


def test_random_objects():
    for seed in range(250):
        value = random_object(random.Random(seed), torch, numpy)
        for keep_whole in (True, False):
            captured = capture(value, keep_whole_storages=keep_whole)
            assert encode(decode(captured.manifest_bytes)) == captured.manifest_bytes, seed
            assert described(restored(captured), offsets=keep_whole) == described(value, offsets=keep_whole), seed


def test_what_is_one_object_stays_one():
    inner, weight, array = [1], torch.nn.Parameter(torch.ones(400)), numpy.arange(500)
    value = {"a": inner, "b": (inner,), "weight": weight, "tied": weight, "arrays": [array, array], "twin": [1]}
    again = round_trip(value)
    assert again["a"] is again["b"][0] and again["twin"] is not again["a"]
    assert again["weight"] is again["tied"] and type(again["weight"]) is torch.nn.Parameter
    assert again["arrays"][0] is again["arrays"][1]
    again["arrays"][0][0] = 7  # an array can be written to


def test_views_share_their_storage():
    base = torch.arange(1000.0)
    again = round_trip({"left": base[:600], "right": base[400:], "whole": base})
    again["left"][500] = -1
    assert again["right"][100] == -1 and again["whole"][500] == -1


def test_a_state_dict_loads():
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.BatchNorm1d(20), torch.nn.Linear(20, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(8, 30)).sum().backward()
    optimizer.step()
    again = round_trip({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    assert again["model"]._metadata == model.state_dict()._metadata
    twin = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.BatchNorm1d(20), torch.nn.Linear(20, 3))
    twin.load_state_dict(again["model"])
    torch.optim.AdamW(twin.parameters()).load_state_dict(again["optimizer"])
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values()))


def test_attributes_of_tensors_are_kept():
    tensor, parameter = torch.arange(3.0), torch.nn.Parameter(torch.zeros(2))
    tensor.note, parameter.group = {"a": torch.ones(2)}, ("x", 1)
    again = round_trip([tensor, parameter, tensor])
    assert torch.equal(again[0].note["a"], torch.ones(2)) and again[1].group == ("x", 1) and again[0] is again[2]
    assert type(again[0]) is torch.Tensor and type(again[1]) is torch.nn.Parameter


def test_numpy_values():
    value = {"dates": numpy.array(["2020-01-01", "NaT"], dtype="M8[D]"), "span": numpy.timedelta64(25, "s"), "date": numpy.datetime64("2001-02-03T04:05:06"),
             "void": numpy.zeros(2, "V3"), "empty": numpy.zeros((0, 3), ">f8"), "text": numpy.str_("épée"), "long": numpy.arange(4000, dtype=">u2"),
             "fortran": numpy.asfortranarray(numpy.arange(600.0).reshape(20, 30)), numpy.int64(3): numpy.float32(-0.0), "scalars": {numpy.int8(1), 2.5}}
    again = round_trip(value)
    assert described(again) == described(value)
    assert again["long"].dtype.str == ">u2" and again["fortran"].flags.f_contiguous and again["dates"].dtype.str == "<M8[D]"


def test_objects_of_the_list():
    import traceback  # pylint: disable=import-outside-toplevel

    error = ValueError("bad", 3)
    error.hint = ["a"]
    again = round_trip({"errors": [error, OSError(2, "none"), error], "classes": [torch.Tensor, OSError, collections.OrderedDict, torch.FloatTensor]})
    assert again["errors"][0].args == ("bad", 3) and again["errors"][0].hint == ["a"] and again["errors"][0] is again["errors"][2]
    assert again["errors"][1].errno == 2 and again["classes"] == [torch.Tensor, OSError, collections.OrderedDict, torch.FloatTensor]
    stack = traceback.StackSummary.from_list([("train.py", 3, "main", "step()")])
    again = round_trip(stack)
    assert type(again) is traceback.StackSummary and again.format() == stack.format()


def test_as_deep_and_as_wide_as_it_likes():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    again = round_trip(deep)
    for _ in range(100_000):
        (again,) = again
    assert again == []
    wide = {f"layer.{i}": torch.full((2,), float(i)) for i in range(20_000)}
    assert all(tensor[1] == i for i, tensor in enumerate(round_trip(wide).values()))


PROGRAM = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from sconce._capture import capture
from sconce._restore import Restorer
value = {"strs": {"a", "b", "c", "d", ("e", 1)}, "plain": [1, 2.5, None, b"x"], "ordered": __import__("collections").Counter("abca")}
captured = capture(value)
assert Restorer(captured.manifest_bytes).finish() == value
assert "torch" not in sys.modules and "numpy" not in sys.modules, "imported without need"
print(hashlib.sha256(captured.manifest_bytes).hexdigest())
"""


def test_the_same_object_gives_the_same_bytes_in_every_process():
    """Whatever the order of hashes is; and nothing of PyTorch is imported for what has none of it."""
    digests = set()
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", PROGRAM, str(SOURCE / "client/python")]
        digests.add(subprocess.run(command, env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


def test_meta_tensors_have_no_bytes():
    captured = capture({"meta": torch.empty(1000, 1000, device="meta"), "parameter": torch.nn.Parameter(torch.empty(5, device="meta"))})
    manifest = decode(captured.manifest_bytes)
    assert not manifest.storages and not captured.storages and [node.kind for node in manifest.nodes].count(Kind.TENSOR) == 2
    assert restored(captured)["meta"].device.type == "meta"
