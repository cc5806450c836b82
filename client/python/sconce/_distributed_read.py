"""Reads pieces of saved tensors, by byte ranges of the bulk stream: only what is wanted, and little of it at a time.

Wanted ranges that lie close to each other are read together. A large piece is cut along its first axis, so that memory does not grow with it.
"""

from __future__ import annotations

import io
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import numpy
import torch

from sconce._distributed_index import Box, CheckpointIndex, Place
from sconce._fetch import StreamFetch
from sconce._manifest import encode
from sconce._nodes import DTYPES
from sconce._restore import Restorer
from sconce._subtree import subtree

__all__ = ["Reader", "Wanted"]

_RUN_BYTES = 64 << 20  # read at once, where a single row is not larger
_GAP_BYTES = 1 << 20  # reading so much that nobody wants is cheaper than another call


class Wanted(NamedTuple):
    """A box, and what gives the tensor that it is to be copied into, which is asked for when the bytes are there."""

    box: Box
    target: Callable[[], Any]


class _Piece(NamedTuple):
    start: int  # in the bulk stream
    end: int
    place: Place
    target: Callable[[], Any]


class Reader:
    """Of one version. Not thread-safe."""

    def __init__(self, fetch: StreamFetch, index: CheckpointIndex) -> None:
        self._fetch = fetch
        self._index = index

    def read(self, wanted: Iterable[Wanted]) -> None:
        """Copies each box to its target. SconceError as StreamFetch.read_into()."""
        pieces: List[_Piece] = []
        for each in wanted:
            for piece in self._pieces(each):
                if piece.start < 0:
                    self._copy(piece, self._inline(piece.place))
                else:
                    pieces.append(piece)
        pieces.sort(key=lambda piece: piece.start)
        for start, end, run in _runs(pieces):
            buffer: Any = numpy.empty(end - start, numpy.uint8)
            self._fetch.read_range(start, memoryview(buffer))
            for piece in run:
                self._copy(piece, buffer[piece.start - start : piece.end - start])

    def read_values(self, nodes: Sequence[int]) -> List[Any]:
        """Values that are not tensors, though they may hold some, as Run.load gives them."""
        manifest, origins = subtree(self._index.manifest, nodes)
        restorer = Restorer(encode(manifest), map_location="cpu")
        for number, storage in enumerate(restorer.bulk):
            start = self._index.bulk_start(origins[storage])
            assert start is not None
            self._fetch.read_range(start, restorer.buffers[number])
        values: List[Any] = restorer.finish()
        return values

    def _pieces(self, wanted: Wanted) -> Iterator[_Piece]:
        place = self._index.place(wanted.box)
        if place is None:
            return
        bulk_start = self._index.bulk_start(place.storage)
        if bulk_start is None:
            yield _Piece(-1, -1, place, wanted.target)
            return
        lengths = wanted.box.lengths
        if place.end - place.first <= _RUN_BYTES or not lengths or lengths[0] == 1:
            yield _Piece(bulk_start + place.first, bulk_start + place.end, place, wanted.target)
            return
        rows = max(1, lengths[0] * _RUN_BYTES // (place.end - place.first))
        for row in range(0, lengths[0], rows):
            count = min(rows, lengths[0] - row)
            offsets = (wanted.box.offsets[0] + row, *wanted.box.offsets[1:])
            box = wanted.box._replace(offsets=offsets, lengths=(count, *lengths[1:]))
            yield from self._pieces(Wanted(box, _Narrowed(wanted.target, row, count)))

    def _inline(self, place: Place) -> Any:
        data = bytearray(self._index.manifest.storages[place.storage].inline_bytes[place.first : place.end])
        return numpy.frombuffer(data, numpy.uint8)

    @staticmethod
    def _copy(piece: _Piece, data: Any) -> None:
        view = piece.place.view
        if data.ctypes.data % DTYPES[view.dtype].size:
            data = data.copy()
        source = torch.frombuffer(data, dtype=getattr(torch, view.dtype)).as_strided(view.shape, view.stride)
        if view.conjugate:
            torch._C._set_conj(source, True)
        if view.negative:
            torch._C._set_neg(source, True)
        piece.target().copy_(source)


class _Narrowed:
    """Some rows of a target."""

    def __init__(self, target: Callable[[], Any], row: int, count: int) -> None:
        self._target = target
        self._row = row
        self._count = count

    def __call__(self) -> Any:
        return self._target().narrow(0, self._row, self._count)


def saved_bytes(value: Any) -> io.BytesIO:
    """A value as DCP's planners load it."""
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return stream


def _runs(pieces: Sequence[_Piece]) -> Iterator[Tuple[int, int, List[_Piece]]]:
    """Groups pieces, which are sorted by their starts, by what is read at once: start, end, pieces."""
    run: List[_Piece] = []
    start = end = 0
    for piece in pieces:
        if run and (piece.start > end + _GAP_BYTES or max(end, piece.end) - start > _RUN_BYTES):
            yield start, end, run
            run = []
        if not run:
            start, end = piece.start, piece.end
        run.append(piece)
        end = max(end, piece.end)
    if run:
        yield start, end, run
