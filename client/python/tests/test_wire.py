"""Bulk messages by hand are those of the generated messages."""

import random

import pytest
import sconce
from sconce import _wire
from sconce._chunks import CHUNK_BYTES, ChunkPlan
from sconce._proto import v1


@pytest.mark.parametrize("chunk, offset", [(0, 0), (1, 0), (0, 127), (128, 2 << 20), (1 << 40, (1 << 62) + 1)])
def test_chunk_data(chunk, offset):
    pieces = [memoryview(b"ab"), memoryview(b""), memoryview(b"c" * 300)]
    wanted = v1.UploadChunksRequest(chunk=chunk, offset=offset, data=b"".join(pieces))
    assert _wire.encode_chunk_data(chunk, offset, pieces) == wanted.SerializeToString()


def test_a_piece_of_a_manifest():
    assert _wire.encode_manifest(b"x" * 200) == v1.UploadChunksRequest(manifest=b"x" * 200).SerializeToString()


def test_fields_of_any_message():
    message = v1.FetchCheckpointResponse(manifest=b"m" * 130, offset=1 << 40, xxh3=b"x" * 16, data=b"d" * 70_000)
    message.header.plan = "p"
    seen = {number: value if isinstance(value, int) else bytes(value) for number, value in _wire.fields(message.SerializeToString())}
    header = message.header.SerializeToString()
    assert seen == {1: header, 2: message.manifest, 3: message.offset, 4: message.xxh3, 15: message.data}
    assert [number for number, _ in _wire.fields(b"\x09" + b"8" * 8 + b"\x15" + b"4" * 4)] == [1, 2]


def test_what_is_no_message_is_an_error_and_nothing_worse():
    whole = v1.FetchCheckpointResponse(offset=300, data=b"d" * 300).SerializeToString()
    for length in range(1, len(whole)):
        try:
            list(_wire.fields(whole[:length]))
        except sconce.InternalError:
            pass
    with pytest.raises(sconce.InternalError):
        list(_wire.fields(b"\x80" * 20))
    with pytest.raises(sconce.InternalError):
        list(_wire.fields(b"\x0b"))  # a group
    with pytest.raises(sconce.InternalError):
        list(_wire.fields(b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))


def test_chunks_cover_the_storages_exactly():
    chooser = random.Random(1)
    for _ in range(50):
        sizes = [chooser.choice([1025, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, chooser.randrange(1025, 5 * CHUNK_BYTES)]) for _ in range(5)]
        plan = ChunkPlan(sizes)
        chunks = list(plan.unsettled())
        assert [chunk.number for chunk in chunks] == list(range(plan.chunk_count))
        for storage, size in enumerate(sizes):
            own = [chunk for chunk in chunks if chunk.storage == storage]
            assert [chunk.start for chunk in own] == list(range(0, size, CHUNK_BYTES)) and sum(chunk.size_bytes for chunk in own) == size
        some = chooser.sample(range(plan.chunk_count), plan.chunk_count // 2)
        for number in [*some, *some]:
            plan.settle(number)
        left = list(plan.unsettled())
        assert plan.settled_chunks == len(some) and plan.settled_bytes + sum(chunk.size_bytes for chunk in left) == sum(sizes)
        assert plan.bytes_but(some) == sum(chunk.size_bytes for chunk in left)


def test_ranges_that_the_server_made_up():
    plan = ChunkPlan([CHUNK_BYTES * 3])
    plan.settle_ranges([v1.ChunkRange(first=0, last=1)])
    assert plan.settled_chunks == 2
    for first, last in [(-1, 0), (2, 1), (1, 3)]:
        with pytest.raises(sconce.InternalError, match="and this part has 3"):
            plan.settle_ranges([v1.ChunkRange(first=first, last=last)])
