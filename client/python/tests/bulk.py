"""Manifests and bulk streams for tests of the transport."""

import numpy
from sconce import _fetch, _upload
from sconce._capture import capture
from sconce._connection import Connection
from sconce._options import resolve
from sconce._proto import v1


def connect(target, **options):
    return Connection(resolve(target, **options))


def header(run, **checkpoint):
    return v1.PushHeader(parent=f"projects/default/runs/{run}", checkpoint=checkpoint)


def manifest_of(server, *sizes, first_key=0):
    """The manifest of a checkpoint with storages of these sizes, all larger than 1 KiB. The server then has the run `shapes`, with zeros."""
    captured = capture({f"t{i}": zeros(size) for i, size in enumerate(sizes, first_key)})
    assert [len(storage) for storage in captured.storages] == list(sizes)
    _upload.upload(connect(server.target), header("shapes"), captured.manifest_bytes, captured.storages)
    return captured.manifest_bytes


def zeros(size):
    """A tensor, or where there is no PyTorch an array."""
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        return numpy.zeros(size, numpy.uint8)
    return torch.zeros(size, dtype=torch.uint8)


def random_storages(*sizes, seed=0):
    random = numpy.random.default_rng(seed)
    return [read_only(random.integers(0, 256, size, dtype=numpy.uint8)) for size in sizes]


def read_only(array):
    return memoryview(array).toreadonly()


def fetch_all(connection, name, **options):
    """The bytes of all storages, and the header."""
    with _fetch.begin_fetch(connection, name, **options) as fetch:
        whole = bytearray(fetch.header.bulk_bytes)
        fetch.read_into([memoryview(whole)])
        return bytes(whole), fetch.header


def joined(storages):
    return b"".join(storages)
