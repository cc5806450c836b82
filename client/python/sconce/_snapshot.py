"""A copy of a checkpoint's bytes, so that training goes on while they are sent.

    snapshot = take_snapshot(state)   # as long as a plain copy takes
    optimizer.step()                  # may write to the tensors from here on
    ...                               # snapshot.manifest_bytes and snapshot.storages, as capture(state) had them
    snapshot.release()                # the memory is used again by the next one

Only the bytes are copied at once. What the checkpoint looks like is found out when it is asked for, on the thread that saves, where the object can be frozen
(_freeze.py); of other objects, before the copy.

Memory for a whole checkpoint is kept between snapshots: the kernel zeroes and maps new memory page by page, which takes longer than the copy itself.
"""

from __future__ import annotations

import collections
import ctypes
import os
import queue
import threading
import weakref
from typing import Any, Deque, Dict, Iterable, List, Optional, Sequence, Tuple, overload

import numpy

from sconce._capture import Captured, capture, capture_into
from sconce._capture_storages import HeldSource, Source, StorageTable, bytes_of
from sconce._freeze import Frozen, FrozenStorage, freeze
from sconce._nodes import collector_paused

__all__ = ["LateSnapshot", "Snapshot", "drop_pooled_memory", "take_snapshot"]

_ALIGNMENT = 64
_PIECE_BYTES = 4 << 20  # what one thread copies at a time
_WORTH_A_THREAD = 16 << 20  # so much for each thread that helps
_SMALL_BYTES = 128 << 10  # giving the interpreter's lock away and waiting for it takes longer than copying so much
_BATCH = 1024  # small pieces that are copied before others get the lock
_MAX_THREADS = 4  # more than these do not make memory faster
_MAX_POOLED = 2  # arenas that wait for the next snapshot

_Piece = Tuple[int, int, int]  # to this place in the arena, from that address, so many bytes


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
        self._manifest_bytes = captured.manifest_bytes
        self._sizes: Sequence[int] = captured.storages.sizes
        places = self._take_memory(self._sizes)
        self._views: Sequence[memoryview] = _Views(self._memory, places, self._sizes)
        with collector_paused():
            pieces, elsewhere = [], []
            for place, source in zip(places, captured.storages.sources):
                if source.is_host:
                    pieces.append((place, source.address, source.nbytes))
                else:
                    elsewhere.append((place, source))
            self._copy(pieces, ((place, source.tensor) for place, source in elsewhere))

    def _take_memory(self, sizes: Sequence[int]) -> List[int]:
        """Takes memory for storages of these sizes. Returns where in it each of them goes."""
        places, size = _places(sizes)
        self._arena: Optional[Any] = _pool.take(size)
        # All views refer to this one array, and so tell by keeping it alive that somebody still looks.
        root = self._arena[:size]
        self._root = weakref.ref(root)
        self._memory = memoryview(root).toreadonly()
        return places

    def _copy(self, pieces: Sequence[_Piece], elsewhere: Iterable[Tuple[int, Any]]) -> None:
        """Copies what is in the host's memory, and tensors that are not."""
        arena = self._arena
        assert arena is not None
        _copy_all(pieces, int(arena.ctypes.data))
        for place, tensor in elsewhere:
            import torch  # pylint: disable=import-outside-toplevel

            torch.from_numpy(arena[place : place + tensor.shape[0]]).copy_(tensor)

    @property
    def manifest_bytes(self) -> bytes:
        """As of Captured."""
        return self._manifest_bytes

    @property
    def sizes(self) -> Sequence[int]:
        """Of the bulk storages, in bytes."""
        return self._sizes

    @property
    def storages(self) -> Sequence[memoryview]:
        """The bytes of the bulk storages, read-only. Empty after release()."""
        return self._views

    def release(self) -> None:
        """Makes the memory free for the next snapshot. Memory that somebody still looks at is left to them instead."""
        arena, self._arena = self._arena, None
        self._views = ()
        self._memory = memoryview(b"")
        if arena is not None and self._root() is None:
            _pool.give_back(arena)

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


class LateSnapshot(Snapshot):
    """A snapshot of a frozen object. Whoever first asks for something of it waits until the checkpoint is captured: it takes as long as the object is large."""

    def __init__(self, frozen: Frozen) -> None:  # pylint: disable=super-init-not-called
        storages = frozen.storages.values()
        places = self._take_memory([max(storage.end - storage.first, 0) for storage in storages])
        pieces, elsewhere = [], []
        for place, storage in zip(places, storages):
            if storage.end <= storage.first:
                continue  # only empty tensors look at it
            if storage.is_host:
                pieces.append((place, storage.storage.data_ptr() + storage.first, storage.end - storage.first))
            else:
                elsewhere.append((place, storage))
        self._copy(pieces, ((place, bytes_of(each.storage, each.first, each.end - each.first)) for place, each in elsewhere))
        self._pending: Optional[Tuple[Any, StorageTable]] = (frozen.root, _HeldTable(frozen.storages, places, self._memory))

    def _capture(self) -> None:
        if self._pending is None:
            return
        root, table = self._pending
        self._pending = None
        captured = capture_into(table, root)
        self._manifest_bytes = captured.manifest_bytes
        self._sizes = captured.storages.sizes
        self._views = captured.storages

    @property
    def manifest_bytes(self) -> bytes:
        self._capture()
        return self._manifest_bytes

    @property
    def sizes(self) -> Sequence[int]:
        self._capture()
        return self._sizes

    @property
    def storages(self) -> Sequence[memoryview]:
        self._capture()
        return self._views

    def release(self) -> None:
        self._pending = None
        super().release()


def take_snapshot(obj: Any) -> Snapshot:
    """A copy of an object's bytes. Errors: those of capture(), before anything is copied."""
    frozen = freeze(obj)
    return Snapshot(capture(obj)) if frozen is None else LateSnapshot(frozen)


class _HeldTable(StorageTable):
    """The storages of a frozen object: as large as they were, with the bytes that were copied."""

    def __init__(self, storages: Dict[int, FrozenStorage], places: Sequence[int], memory: memoryview) -> None:
        super().__init__(keep_whole=False)
        self._held = {identity: (storage, place) for (identity, storage), place in zip(storages.items(), places)}
        self._memory = memory

    def nbytes_of(self, storage: Any) -> int:
        return self._held[storage._cdata][0].nbytes

    def source_of(self, storage: Any, first: int, nbytes: int, is_host: bool) -> Source:
        held, place = self._held[storage._cdata]
        assert held.first <= first and first + nbytes <= held.end
        start = place + first - held.first
        return HeldSource(self._memory[start : start + nbytes])


def _places(sizes: Sequence[int]) -> Tuple[List[int], int]:
    """Where each of the storages begins in one arena, and how large that must be."""
    places = []
    end = 0
    for size in sizes:
        places.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return places, end


def _copy_all(pieces: Sequence[_Piece], base: int) -> None:
    """Copies bytes that are at an address to their places behind the base."""
    small: List[_Piece] = []
    large: Deque[_Piece] = collections.deque()
    total = 0
    for piece in pieces:
        place, address, size = piece
        if size < _SMALL_BYTES:
            small.append(piece)
            continue
        total += size
        for start in range(0, size, _PIECE_BYTES):
            large.append((place + start, address + start, min(_PIECE_BYTES, size - start)))
    work = _Work(large, base)
    _crew.help_with(work, min(_MAX_THREADS, os.cpu_count() or 1, total // _WORTH_A_THREAD) - 1)
    _copy_small(small, base)
    work.finish()


class _Work:
    """Pieces to be copied, by whoever has the time: a thread that does not get a core keeps nobody waiting, but for the piece that it has in hand."""

    def __init__(self, pieces: Deque[_Piece], base: int) -> None:
        self._pieces = pieces
        self._base = base
        self._changed = threading.Condition()
        self._helpers = 0  # that are at it

    def help(self) -> None:
        """Takes part until no piece is left."""
        with self._changed:
            self._helpers += 1
        try:
            self._copy()
        finally:
            with self._changed:
                self._helpers -= 1
                self._changed.notify()

    def finish(self) -> None:
        """Returns when all is copied."""
        self._copy()
        with self._changed:
            self._changed.wait_for(lambda: not self._helpers)

    def _copy(self) -> None:
        while True:
            try:
                place, address, size = self._pieces.popleft()
            except IndexError:
                return
            _memmove_unlocked(self._base + place, address, size)


class _Crew:
    """Threads that help to copy. They stay, for starting one means to wait for it."""

    def __init__(self) -> None:
        self._queue: "queue.SimpleQueue[_Work]" = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._size = 0

    def help_with(self, work: _Work, count: int) -> None:
        """Lets so many take part, when they get to it."""
        with self._mutex:
            while self._size < count:
                threading.Thread(target=self._run, name="sconce-snapshot", daemon=True).start()
                self._size += 1
        for _ in range(count):
            self._queue.put(work)

    def _run(self) -> None:
        while True:
            self._queue.get().help()


_crew = _Crew()


def _new_crew() -> None:
    """In a child of a fork, which has no other threads."""
    global _crew  # pylint: disable=global-statement
    _crew = _Crew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_crew)


# The same function twice: with and without giving the interpreter's lock away.
_memmove_unlocked: Any = ctypes.memmove
_memmove_locked = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(_memmove_unlocked, ctypes.c_void_p).value or 0
)


def _copy_small(pieces: Sequence[_Piece], base: int) -> None:
    for start in range(0, len(pieces), _BATCH):
        places, addresses, sizes = zip(*pieces[start : start + _BATCH])
        collections.deque(map(_memmove_locked, map(base.__add__, places), addresses, sizes), maxlen=0)
