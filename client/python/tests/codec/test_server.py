"""The codec against the server: its manifests become torch.load's objects, and ours become its files."""

import random

import numpy
import pytest

torch = pytest.importorskip("torch")

import judge  # noqa: E402
from codec_judge import described, load  # noqa: E402
from codec_trees import random_object  # noqa: E402
from codec_support import fixture_files, name_of  # noqa: E402
from sconce._capture import capture  # noqa: E402
from sconce._errors import from_rpc_error  # noqa: E402
from sconce._manifest import decode, encode  # noqa: E402
from sconce._nodes import Kind  # noqa: E402
from sconce._restore import Restorer  # noqa: E402

# Code, and files that the server refuses as well as we do.
NOT_STORED = {"bnnet_scripted_train_mode.pt", "bnnet_traced.pt", "whole_model.pt", "evil_system.pt"}
PATHS = [path for path in fixture_files() if path.name not in NOT_STORED and not path.name.startswith("refused_")]


def restore(manifest, bulk):
    restorer = Restorer(manifest, map_location="cpu")
    at = 0
    for buffer in restorer.buffers:
        buffer[:] = bulk[at : at + len(buffer)]
        at += len(buffer)
    assert at == len(bulk)
    return restorer.finish()


def load_exported(data, manifest):
    """With weights_only where that loader can read what is in the tree: the one of 1.13 knows no floats, that of 2.6 few classes, and none has an
    opcode for ints of more than 255 bytes."""
    huge = any(node.kind == Kind.INT and node.value.bit_length() > 2000 for node in manifest.nodes)
    classes = judge.VERSION < (2, 14) and any(node.kind in (Kind.GLOBAL, Kind.OBJECT) for node in manifest.nodes)
    if judge.VERSION < (2, 6) or huge or classes:
        return load(data)
    with judge.safe_numpy():
        return load(data, weights_only=True)


def can_be_exported_for_here(manifest):
    """What newer releases have another function for in their files than 1.13, whose torch.load then fails."""
    if judge.VERSION >= (2, 0):
        return True
    return not any(view.conjugate or view.negative for view in manifest.tensors) and not any(
        node.kind == Kind.SPARSE_TENSOR and manifest.nodes[node.children[0]].value != "sparse_coo" for node in manifest.nodes
    )


@pytest.mark.parametrize("path", PATHS, ids=map(name_of, PATHS))
def test_a_file_by_way_of_the_server(transfer, run_name, path):
    manifest, bulk = transfer.fetch(transfer.import_file(run_name, path.read_bytes()))
    assert encode(decode(manifest)) == manifest  # whatever this PyTorch can make of it
    try:
        value = load(path)
    except Exception as error:  # pylint: disable=broad-except  # whatever is missing here
        pytest.skip(f"PyTorch {torch.__version__} does not load it: {type(error).__name__}: {str(error)[:80]}")
    assert described(restore(manifest, bulk)) == described(value)
    for keep_whole in (True, False):
        captured = capture(value, keep_whole_storages=keep_whole)
        data = transfer.export(transfer.push(run_name, captured.manifest_bytes, captured.storages))
        again = decode(captured.manifest_bytes)
        if can_be_exported_for_here(again):
            assert described(load_exported(data, again), offsets=keep_whole) == described(value, offsets=keep_whole)


def test_random_objects_by_way_of_the_server(transfer, run_name):
    exported = 0
    for seed in range(60):
        value = {"tree": random_object(random.Random(f"server {seed}"), torch, numpy)}
        captured = capture(value)
        name = transfer.push(run_name, captured.manifest_bytes, captured.storages)
        manifest, bulk = transfer.fetch(name)
        assert bulk == b"".join(captured.storages), seed
        again = decode(manifest)
        for storage in again.storages:
            storage.chunks = b""
        assert encode(again) == captured.manifest_bytes, seed
        assert described(restore(manifest, bulk), offsets=False) == described(value, offsets=False), seed
        try:
            data = transfer.export(name)
        except Exception as error:  # pylint: disable=broad-except
            assert from_rpc_error(error).reason == "FILE_UNSUPPORTED", (seed, error)
            continue
        if can_be_exported_for_here(again):
            assert described(load_exported(data, again), offsets=False) == described(value, offsets=False), seed
            exported += 1
    assert exported > 40
