"""The storages of a checkpoint that is being captured: which there are, how much of each is seen, and where their bytes are."""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, Tuple

from sconce._nodes import DTYPES, NO_INDEX, PACKED, Storage, TensorView, is_meta_device, view_end_bytes

__all__ = ["HeldSource", "Source", "StorageTable", "bytes_of", "memory_at"]


class Source:
    """Where the bytes of a bulk storage are: a range of a storage of PyTorch's on any device, or a numpy array of bytes."""

    __slots__ = ("storage", "first", "nbytes", "is_host")

    def __init__(self, storage: Any, first: int, nbytes: int, is_host: bool) -> None:
        self.storage = storage
        self.first = first
        self.nbytes = nbytes
        self.is_host = is_host

    @property
    def tensor(self) -> Any:
        """A tensor of the bytes, on the storage's device; None for those of a numpy array."""
        return bytes_of(self.storage, self.first, self.nbytes) if hasattr(self.storage, "data_ptr") else None

    @property
    def address(self) -> int:
        """Where the bytes are, of a source in the host's memory."""
        if hasattr(self.storage, "data_ptr"):
            return int(self.storage.data_ptr()) + self.first
        return int(self.storage.ctypes.data) + self.first

    def host_bytes(self) -> memoryview:
        """The live bytes, or where they are not in the host's memory, a copy of them."""
        if self.is_host:
            return memory_at(self.address, self.nbytes, self.storage).toreadonly()
        return memoryview(self.tensor.cpu().numpy()).toreadonly()


class HeldSource(Source):
    """Bytes that were copied: of a snapshot."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        super().__init__(None, 0, len(view), True)
        self.view = view

    def host_bytes(self) -> memoryview:
        return self.view


def memory_at(address: int, size: int, owner: Any) -> memoryview:
    """These bytes, which keep their owner alive. A numpy array would do, too, but making one of a tensor takes longer than filling a small one."""
    if not size:
        return memoryview(bytearray())
    array: Any = (ctypes.c_ubyte * size).from_address(address)
    array.owner = owner
    return memoryview(array).cast("B")


def bytes_of(storage: Any, first: int, size: int) -> Any:
    """A tensor of the bytes of a part of a storage: a view, no copy."""
    import torch  # pylint: disable=import-outside-toplevel

    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, first, (size,), (1,))


class _Entry:
    __slots__ = ("storage", "array", "device", "nbytes", "first", "end", "align", "whole")

    def __init__(self, storage: Any, device: str, nbytes: int, whole: bool) -> None:
        self.storage = storage  # a torch.UntypedStorage, or a numpy array of bytes
        self.device = device
        self.nbytes = nbytes
        self.first = nbytes  # the range that views see
        self.end = 0
        self.align = 1  # of the widest dtype that it is seen as
        self.whole = whole


class StorageTable:
    """Storages get their numbers in the order they are met. Which part of one is kept is known only when all views are."""

    def __init__(self, keep_whole: bool) -> None:
        self.keep_whole = keep_whole
        self.views: List[TensorView] = []
        self.entries: List[_Entry] = []
        self.by_identity: Dict[int, int] = {}

    def add_array(self, array: Any) -> int:
        self.entries.append(_Entry(array, "cpu", int(array.shape[0]), True))
        return len(self.entries) - 1

    def add_storage(self, storage: Any, device: str, whole: bool = False) -> int:
        index = self.by_identity.get(storage._cdata)
        if index is None:
            index = self.by_identity[storage._cdata] = len(self.entries)
            self.entries.append(_Entry(storage, device, self.nbytes_of(storage), self.keep_whole))
        if whole:
            self.entries[index].whole = True
        return index

    def nbytes_of(self, storage: Any) -> int:
        """How large a storage of PyTorch's is."""
        return int(storage.nbytes())

    def source_of(self, storage: Any, first: int, nbytes: int, is_host: bool) -> Source:
        """Where the bytes of a part of a storage of PyTorch's are."""
        return Source(storage, first, nbytes, is_host)

    def add_view(self, view: TensorView) -> int:
        self.views.append(view)
        if view.storage != NO_INDEX:
            entry = self.entries[view.storage]
            if view.dtype in PACKED:
                entry.whole = True
            elif 0 not in view.shape:
                size = DTYPES[view.dtype].size
                first, end = view.offset * size, view_end_bytes(view)
                if first < entry.first:
                    entry.first = first
                if end > entry.end:
                    entry.end = end
                if size > entry.align:
                    entry.align = size
        return len(self.views) - 1

    def finish(self) -> Tuple[List[Storage], List[Source]]:
        """The manifest's storages, and where the bytes of the bulk ones are. Moves the views into the ranges that are kept."""
        storages: List[Storage] = []
        sources: List[Source] = []
        first_of = [0] * len(self.entries)
        for index, entry in enumerate(self.entries):
            first, end = 0, entry.nbytes
            if not entry.whole:
                # Views count in elements, of up to 16 bytes: the range begins where all of them can.
                first = min(entry.first, entry.end) // entry.align * entry.align
                end = min(-(-entry.end // entry.align) * entry.align, entry.nbytes)
            first_of[index] = first
            storages.append(self._storage(entry, first, end, sources))
        for view in self.views:
            if view.storage != NO_INDEX and first_of[view.storage]:
                view.offset = max(view.offset - first_of[view.storage] // DTYPES[view.dtype].size, 0)
        return storages, sources

    def _storage(self, entry: _Entry, first: int, end: int, sources: List[Source]) -> Storage:
        storage = Storage(end - first, entry.device)
        if end <= first or is_meta_device(entry.device):
            return storage
        if not hasattr(entry.storage, "data_ptr"):
            sources.append(Source(entry.storage, first, end - first, True))
            return storage
        is_host = entry.device == "cpu" or entry.storage.device.type == "cpu"
        source = self.source_of(entry.storage, first, end - first, is_host)
        if storage.is_bulk:
            sources.append(source)
        elif type(source) is Source and is_host:
            storage.inline_bytes = ctypes.string_at(source.address, end - first)
        else:
            storage.inline_bytes = source.host_bytes().tobytes()
        return storage
