"""A copy of a checkpoint's bytes, so that training goes on while they are sent.

    snapshot = Snapshot(captured)   # as long as a plain copy takes
    optimizer.step()                # may write to the tensors from here on
    ...                             # snapshot.manifest_bytes and snapshot.storages, as of `captured`
    snapshot.release()              # the memory is used again by the next one

Memory for a whole checkpoint is kept between snapshots: the kernel zeroes and maps new memory page by page, which takes longer than the copy itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Optional, Sequence, Tuple, overload

import numpy

from sconce._capture import Captured
from sconce._capture_storages import Source
from sconce._nodes import collector_paused

__all__ = ["Snapshot", "drop_pooled_memory"]

_ALIGNMENT = 64
_PIECE_BYTES = 16 << 20  # what one thread copies at a time
_SMALL_BYTES = 128 << 10  # threads that copy pieces of less than that wait for the interpreter's lock more than for memory
_MAX_THREADS = 4  # more than these do not make memory faster
_MAX_POOLED = 2  # arenas that wait for the next snapshot

_Piece = Tuple[int, int, int]  # to this address, from that address, so many bytes


class _Pool:
    """Memory that snapshots gave back. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._arenas: List[Any] = []

    def take(self, size: int) -> Any:
        """An array of at least `size` bytes: the smallest one that is large enough, or a new one."""
        with self._mutex:
            fitting = [index for index, arena in enumerate(self._arenas) if arena.shape[0] >= size]
            if fitting:
                return self._arenas.pop(min(fitting, key=lambda index: int(self._arenas[index].shape[0])))
        return numpy.empty(size, numpy.uint8)

    def give_back(self, arena: Any) -> None:
        with self._mutex:
            self._arenas.append(arena)
            if len(self._arenas) > _MAX_POOLED:
                del self._arenas[min(range(len(self._arenas)), key=lambda index: int(self._arenas[index].shape[0]))]

    def clear(self) -> None:
        with self._mutex:
            self._arenas.clear()


_pool = _Pool()


def drop_pooled_memory() -> None:
    """Gives the memory that waits for the next snapshot back to the system."""
    _pool.clear()


class _Views(Sequence[memoryview]):
    """Read-only parts of an arena, made when they are asked for: there may be very many."""

    def __init__(self, whole: memoryview, places: Sequence[int], sizes: Sequence[int]) -> None:
        self._whole = whole
        self._places = places
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> List[memoryview]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._whole[self._places[index] : self._places[index] + self._sizes[index]]


class Snapshot:
    """The bytes of a captured checkpoint as they were when it was made. `manifest_bytes` and `storages` as of Captured.

    Not thread-safe; release() once nobody reads the storages. Also a context manager, which releases.
    """

    def __init__(self, captured: Captured) -> None:
        self.manifest_bytes = captured.manifest_bytes
        sources = captured.storages.sources
        sizes = [source.nbytes for source in sources]
        places, size = _places(sizes)
        self._arena: Optional[Any] = _pool.take(size)
        # All views refer to this one array, and so tell by keeping it alive that somebody still looks.
        root = self._arena[:size]
        self._root = weakref.ref(root)
        self._views: Sequence[memoryview] = _Views(memoryview(root).toreadonly(), places, sizes)
        del root
        with collector_paused():
            _copy(sources, places, self._arena)

    @property
    def storages(self) -> Sequence[memoryview]:
        """The bytes of the bulk storages, read-only. Empty after release()."""
        return self._views

    def release(self) -> None:
        """Makes the memory free for the next snapshot. Memory that somebody still looks at is left to them instead."""
        arena, self._arena = self._arena, None
        self._views = ()
        if arena is not None and self._root() is None:
            _pool.give_back(arena)

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


def _places(sizes: Sequence[int]) -> Tuple[List[int], int]:
    """Where each of the storages begins in one arena, and how large that must be."""
    places = []
    end = 0
    for size in sizes:
        places.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return places, end


def _copy(sources: Sequence[Source], places: Sequence[int], arena: Any) -> None:
    base = int(arena.ctypes.data)
    pieces: List[_Piece] = []
    total = 0
    for source, place in zip(sources, places):
        if not source.is_host:
            _copy_from_device(source, arena[place : place + source.nbytes])
            continue
        address = source.address
        total += source.nbytes
        for start in range(0, source.nbytes, _PIECE_BYTES):
            pieces.append((base + place + start, address + start, min(_PIECE_BYTES, source.nbytes - start)))
    threads = min(_MAX_THREADS, os.cpu_count() or 1, total // _PIECE_BYTES)
    if threads < 2 or total < _SMALL_BYTES * len(pieces):
        _copy_pieces(pieces)
        return
    # One share of about the same size each: a task for each of many small storages would cost more than copying it.
    shares: List[List[_Piece]] = [[] for _ in range(threads)]
    done = 0
    for piece in pieces:
        shares[done * threads // total].append(piece)
        done += piece[2]
    with ThreadPoolExecutor(threads - 1, "sconce-snapshot") as pool:
        others = [pool.submit(_copy_pieces, share) for share in shares[1:]]
        _copy_pieces(shares[0])
        for other in others:
            other.result()


def _copy_pieces(pieces: Sequence[_Piece]) -> None:
    memmove = ctypes.memmove  # which does not hold the interpreter's lock
    for target, source, size in pieces:
        memmove(target, source, size)


def _copy_from_device(source: Source, target: Any) -> None:
    """From another device: straight into the arena."""
    import torch  # pylint: disable=import-outside-toplevel

    torch.from_numpy(target).copy_(source.tensor)
