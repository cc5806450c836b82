"""The chunks of a bulk stream, numbered as UploadChunks numbers them, and which of them need nothing more. Pure bookkeeping.

    >>> plan = ChunkPlan([3, CHUNK_BYTES + 1])
    >>> plan.chunk_count, [(chunk.number, chunk.storage, chunk.start, chunk.size_bytes) for chunk in plan.unsettled()]
    (3, [(0, 0, 0, 3), (1, 1, 0, 4194304), (2, 1, 4194304, 1)])
    >>> plan.settle(1), [chunk.number for chunk in plan.unsettled()], plan.settled_bytes
    (None, [0, 2], 4194304)
"""

from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Iterator, List, Sequence

from sconce._errors import make_error

CHUNK_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One of them: `size_bytes` from `start` on of the bulk storage with the index `storage`."""

    number: int
    storage: int
    start: int
    size_bytes: int


class ChunkPlan:
    """The chunks of storages of these sizes. Not thread-safe."""

    def __init__(self, storage_bytes: Sequence[int]) -> None:
        self._storage_bytes = list(storage_bytes)
        self._first: List[int] = []  # chunk of each storage
        count = 0
        for size in self._storage_bytes:
            self._first.append(count)
            count += -(-size // CHUNK_BYTES)
        self._settled = bytearray(count)
        self._sizes = [min(CHUNK_BYTES, size - start) for size in self._storage_bytes for start in range(0, size, CHUNK_BYTES)]
        self.settled_chunks = 0
        self.settled_bytes = 0

    @property
    def chunk_count(self) -> int:
        """How many there are."""
        return len(self._settled)

    @property
    def bulk_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(self._storage_bytes)

    def unsettled(self) -> Iterator[Chunk]:
        """Those that need something still, in order; what is settled meanwhile is left out."""
        for storage, (first, size) in enumerate(zip(self._first, self._storage_bytes)):
            for index, start in enumerate(range(0, size, CHUNK_BYTES)):
                if not self._settled[first + index]:
                    yield Chunk(first + index, storage, start, min(CHUNK_BYTES, size - start))

    def settle(self, number: int) -> None:
        """This chunk needs nothing more."""
        if not self._settled[number]:
            self._settled[number] = 1
            self.settled_chunks += 1
            self.settled_bytes += self._sizes[number]

    def settle_ranges(self, ranges: Iterable[Any]) -> None:
        """What the server says is durable: ChunkRanges. InternalError when there are no such chunks; those before were settled then."""
        for each in ranges:
            if not 0 <= each.first <= each.last < self.chunk_count:
                sentence = f"the server speaks of chunks {each.first} to {each.last}, and this part has {self.chunk_count}"
                raise make_error("INTERNAL", "INTERNAL_ERROR", sentence)
            for number in range(each.first, each.last + 1):
                self.settle(number)

    def bytes_but(self, numbers: Iterable[int]) -> int:
        """Bytes of all chunks but these."""
        return self.bulk_bytes - sum(self._sizes[number] for number in set(numbers))
