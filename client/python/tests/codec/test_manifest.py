"""The bytes of manifests: the example of the specification, random ones, broken ones, and the server's opinion of all of them."""

import random
import re
import struct

import grpc
import pytest

from codec_trees import random_manifest
from codec_support import DATA, SOURCE
from sconce._errors import InvalidArgumentError, SconceError
from sconce._globals import GLOBALS, OBJECT_CLASSES
from sconce._manifest import decode, encode
from sconce._nodes import DTYPES, KIND_NAMES, Kind, Manifest, Node, Storage, TensorView

HEADER = b"SCMANIF\x01"


def document(name):
    return (SOURCE / "docs/formats" / name).read_text(encoding="utf-8")


def test_the_specification_s_example():
    block = document("manifest.md").split("```hex\n")[1].split("```")[0]
    data = bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))
    manifest = decode(data)
    assert encode(manifest) == data
    assert [node.value for node in manifest.nodes if node.kind == Kind.STR] == ["epoch", "w", "big", "tied"]
    assert manifest.tensors[1] == TensorView("float16", (50, 20), (1, 50), storage=1, requires_grad=True)
    assert manifest.storages[0] == Storage(8, "cuda:0", struct.pack("<ff", 1, 2))
    root = manifest.nodes[-1]
    assert root.children == (0, 1, 2, 3, 4, 6, 7, 6)


def test_the_specification_s_dtypes():
    text = " ".join(document("manifest.md").split("dtypes: ")[1].split("\n\n")[0].split())
    found = {name: int(number) for number, name in re.findall(r"(\d+) ([a-z]\w*)(?:[,.] |, )", text) if name in DTYPES}
    for first, last, kind in (("33", "39", "int"), ("40", "46", "uint")):
        assert f"{first} to {last} {kind}1 to {kind}7" in text
        found.update({f"{kind}{bits}": int(first) + bits - 1 for bits in range(1, 8)})
    assert found == {name: dtype.number for name, dtype in DTYPES.items()}


def test_the_specification_s_globals():
    """The allow-list of docs/formats/torch_file.md, less what is another name of the same thing."""
    listed = set()
    for line in document("torch_file.md").split("```globals\n")[1].split("```")[0].splitlines():
        module, names = line.split(": ")
        listed |= {f"{module}.{name}" for name in names.split()}
    aliases = {name for name in listed if name.split(".")[0] in ("__builtin__", "exceptions")} | {"torch.UntypedStorage"}
    nodes_of_their_own = {f"torch.{name}" for name in DTYPES} | {name for name in listed if name.startswith("torch.per_")}
    assert GLOBALS == listed - aliases - nodes_of_their_own
    assert OBJECT_CLASSES < GLOBALS


def test_random_manifests_survive():
    kinds = set()
    for seed in range(300):
        manifest = random_manifest(random.Random(seed))
        kinds |= {node.kind for node in manifest.nodes}
        data = encode(manifest)
        again = decode(data)
        assert again == manifest, seed
        assert encode(again) == data, seed
    assert {KIND_NAMES[kind] for kind in range(len(KIND_NAMES))} == {KIND_NAMES[kind] for kind in kinds}


def test_floats_keep_their_bits():
    patterns = [b"\x00" * 8, b"\x00" * 7 + b"\x80", b"\x01\x00\x00\x00\x00\x00\xf8\x7f", b"\x00\x00\x00\x00\x00\x00\xf8\xff", b"\x00" * 6 + b"\xf0\x7f"]
    body = b"".join(b"\x03" + pattern for pattern in patterns)
    data = HEADER + b"\x00\x00\x00" + bytes([len(patterns) + 1]) + body + b"\x08" + bytes([len(patterns)]) + b"\x00" * len(patterns)
    assert encode(decode(data)) == data
    zero, minus_zero, nan, other_nan, _, _ = decode(data).nodes
    assert zero != minus_zero and nan == nan and nan != other_nan


BROKEN = {
    "empty": b"",
    "magic": b"SCMANIX\x01\x00\x00\x00\x01\x00",
    "flag": HEADER + b"\x04\x00\x00\x01\x00",
    "ends": HEADER + b"\x00\x00\x00\x01",
    "trailing": HEADER + b"\x00\x00\x00\x01\x00\x00",
    "no nodes": HEADER + b"\x00\x00\x00\x00",
    "counts": HEADER + b"\x00\xff\xff\x7f\x00\x01\x00",
    "long varint": HEADER + b"\x00\x80\x00\x00\x01\x00",
    "kind": HEADER + b"\x00\x00\x00\x01\x1f",
    "bool of 2": HEADER + b"\x00\x00\x00\x01\x01\x02",
    "long int": HEADER + b"\x00\x00\x00\x01\x02\x02\x01\x00",
    "text past the end": HEADER + b"\x00\x00\x00\x01\x05\x7f",
    "not UTF-8": HEADER + b"\x00\x00\x00\x01\x05\x01\xff",
    "child of itself": HEADER + b"\x00\x00\x00\x01\x08\x01\x02",
    "child before the first": HEADER + b"\x00\x00\x00\x02\x00\x08\x01\x01",
    "unused node": HEADER + b"\x00\x00\x00\x02\x00\x00",
    "unused storage": HEADER + b"\x00\x01\x00\x01\x00\x03cpu\x00",
    "chunk table of nothing": HEADER + b"\x02\x00\x00\x01\x00",
    "equal keys": HEADER + b"\x00\x00\x00\x05\x01\x01\x00\x02\x01\x01\x00\x0b\x04\x00\x00\x00\x00",
    "list as key": HEADER + b"\x00\x00\x00\x03\x08\x00\x00\x0b\x02\x00\x00",
    "unordered set": HEADER + b"\x00\x00\x00\x03\x02\x01\x02\x02\x01\x01\x0a\x02\x00\x00",
    "unknown class": HEADER + b"\x00\x00\x00\x01\x1d\x09os.system",
    "contiguous strides": HEADER + b"\x00\x01\x01\x01\x01\x03cpu\x07\x09\x00\x00\x00\x01\x01\x01\x15\x00",
    "past its storage": HEADER + b"\x00\x01\x01\x01\x01\x03cpu\x07\x09\x10\x00\x00\x01\x02\x15\x00",
    "huge": HEADER + b"\x00\x01\x01\x01\x00\x03cpu\x09\x10\x00\x00\x02" + (b"\xff" * 8 + b"\x7f") * 2 + b"\x15\x00",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bytes_are_refused(name):
    with pytest.raises(InvalidArgumentError) as caught:
        decode(BROKEN[name])
    assert caught.value.reason == "MANIFEST_INVALID"


def test_a_newer_version_says_so():
    with pytest.raises(SconceError) as caught:
        decode(b"SCMANIF\x02\x00\x00\x00\x01\x00")
    assert caught.value.reason == "MANIFEST_VERSION_UNSUPPORTED"
    assert caught.value.metadata == {"version": "2"}


def test_shared_tuples_do_not_take_the_world():
    """Thirty tuples of the one before, twice: 2^30 elements if one were to look at each."""
    nodes = [Node(Kind.TUPLE)] + [Node(Kind.TUPLE, children=(i, i)) for i in range(30)]
    nodes += [Node(Kind.NONE), Node(Kind.DICT, children=(30, 31))]
    with pytest.raises(SconceError) as caught:
        decode(encode(Manifest(nodes, [], [])))
    assert caught.value.reason == "INPUT_LIMIT_EXCEEDED"
    nodes[-1] = Node(Kind.LIST, children=(30, 31))
    assert decode(encode(Manifest(nodes, [], []))).nodes[-1].kind == Kind.LIST


def test_a_deep_tree_does_not_recurse():
    nodes = [Node(Kind.LIST)] + [Node(Kind.LIST, children=(i,)) for i in range(200_000)]
    assert len(decode(encode(Manifest(nodes, [], []))).nodes) == 200_001


def mutated(data, rng):
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        at = rng.randrange(9 if rng.random() < 0.9 else 0, len(out))
        kind = rng.randrange(4)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice([0, 1, 2, 3, 5, 8, 9, 10, 11, 15, 20, 21, 25, 30, 127, 128, 255])
        elif kind == 2:
            del out[at : at + rng.choice([1, 1, 2, 4])]
        else:
            out[at:at] = bytes(rng.choice([0, 1, 2, 128]) for _ in range(rng.choice([1, 1, 2])))
    return bytes(out)


def opinion(call, *arguments):
    """None when it is taken, else the reason."""
    try:
        call(*arguments)
        return None
    except SconceError as error:
        return error.reason
    except grpc.RpcError as error:
        return reason_of(error)


def reason_of(error):
    from sconce._errors import from_rpc_error

    return from_rpc_error(error).reason


def test_the_server_takes_and_refuses_the_same(transfer):
    """Random manifests, whole and mutated, without bulk storages: what one decoder takes the other one takes too."""
    outcomes = {}
    for seed in range(700):
        rng = random.Random(f"mutations {seed}")
        data = encode(random_manifest(rng, bulk=False, size=6))
        if seed % 5:
            data = mutated(data, rng)
        ours = opinion(decode, data)
        if not ours and decode(data).derived:
            continue  # a push of what is derived is another matter
        if not ours and any(storage.is_bulk for storage in decode(data).storages):
            continue  # its bytes would have to follow
        theirs = opinion(transfer.push, "opinions", data)
        theirs = None if theirs in ("UPLOAD_INCOMPLETE", "ATTRIBUTE_CONFLICT") else theirs
        assert ours == theirs, (seed, data.hex())
        outcomes[ours] = outcomes.get(ours, 0) + 1
    assert outcomes[None] > 140 and outcomes["MANIFEST_INVALID"] > 100, outcomes


FILES = [DATA / name for name in ("state_dict.pt", "views_and_ties.pt", "containers.pt", "adamw_full.pth", "cuda_mixed.pt", "general_sgd.tar")]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_what_the_server_made_of_a_file(transfer, run_name, path):
    name = transfer.import_file(run_name, path.read_bytes())
    data, bulk = transfer.fetch(name)
    manifest = decode(data)
    assert encode(manifest) == data
    assert len(bulk) == sum(storage.size_bytes for storage in manifest.storages if storage.is_bulk)
    for storage in manifest.storages:
        storage.chunks = b""
    again, _ = transfer.fetch(transfer.push(run_name, encode(manifest), [bulk] if bulk else []))
    assert again == data
