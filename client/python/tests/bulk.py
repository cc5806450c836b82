"""Manifests and bulk streams for tests of the transport, which know nothing of the codec: the server itself makes the manifests."""

import io

import numpy
import torch
from sconce import _fetch
from sconce._chunks import CHUNK_BYTES
from sconce._connection import Connection
from sconce._options import resolve
from sconce._proto import v1


def connect(target, **options):
    return Connection(resolve(target, **options))


def header(run, **checkpoint):
    return v1.PushHeader(parent=f"projects/default/runs/{run}", checkpoint=checkpoint)


def manifest_of(server, tmp_path, *sizes, first_key=0):
    """The manifest of a checkpoint with storages of these sizes, all larger than 1 KiB."""
    file = io.BytesIO()
    torch.save({f"t{i}": torch.zeros(size, dtype=torch.uint8) for i, size in enumerate(sizes, first_key)}, file)
    path = tmp_path / "shape.pt"
    path.write_bytes(file.getvalue())
    server.sconce("push", path, "shapes")
    with _fetch.begin_fetch(connect(server.target), "projects/default/runs/shapes/checkpoints/latest") as fetch:
        assert fetch.header.bulk_bytes == sum(sizes)
        return without_chunk_table(fetch.manifest_bytes, sizes)


def without_chunk_table(manifest, sizes):
    """As it is uploaded (docs/formats/manifest.md)."""
    table = 48 * sum(-(-size // CHUNK_BYTES) for size in sizes)
    flags = manifest[8] & ~2
    return manifest[:8] + bytes([flags]) + manifest[9 : len(manifest) - table]


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
