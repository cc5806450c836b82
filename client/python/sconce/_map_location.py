"""Where storages go: `torch.load`'s map_location, of which the server can do one part and the other stays here.

A server maps tags (its DeviceMapping has one device for everything, or a table of tags); it never sees callables, nor which devices this host has.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Placer", "Split", "split"]


# Devices whose tensors have no storage that could be moved: a tensor is made on the CPU, and then moved as a whole.
WITHOUT_STORAGES = ("xla", "maia", "mtia")


class Split(NamedTuple):
    """A map_location in two parts: fields of a DeviceMapping, and what is left for a Restorer."""

    device: str  # DeviceMapping.device; empty: not given
    remap: Dict[str, str]  # DeviceMapping.remap
    client: Any  # the Restorer's map_location
    demanded: FrozenSet[str]  # the Restorer's: tags that the server was told to map to


def split(map_location: Any) -> Split:
    """What of a map_location can be sent to the server: strs, torch.devices and dicts of them. Callables stay with the client."""
    if map_location is None:
        return Split("", {}, None, frozenset())
    if isinstance(map_location, Mapping):
        remap = {str(tag): tag_of(device) for tag, device in map_location.items()}
        return Split("", remap, None, frozenset(remap.values()))
    if callable(map_location):
        return Split("", {}, map_location, frozenset())
    tag = tag_of(map_location)
    return Split(tag, {}, None, frozenset([tag]))


def tag_of(device: Any) -> str:
    """A device as a tag: "cuda:0" of a str, of bytes or of a torch.device."""
    return device.decode("ascii") if isinstance(device, bytes) else str(device)


class Placer:
    """Moves storages, as torch.load does with a map_location.

    Where a device was not asked for but only stands in the checkpoint, and this host lacks it, the storage stays on the CPU and the tag is noted in
    `absent`. A device that map_location (or `demanded`) names must be there: the error is torch's own.
    """

    def __init__(self, map_location: Any, demanded: Sequence[str]) -> None:
        import torch  # pylint: disable=import-outside-toplevel

        self._restore: Callable[[Any, str], Any] = torch.serialization.default_restore_location
        self._map_location = map_location
        self._demanded = frozenset(demanded)
        self._present: Dict[str, bool] = {}
        self.absent: Set[str] = set()

    @property
    def is_callable(self) -> bool:
        return callable(self._map_location) and not isinstance(self._map_location, Mapping)

    def target(self, tag: str) -> Tuple[Optional[str], bool]:
        """The device tag that a storage goes to, and whether it was asked for; (None, ...) when only a callable knows."""
        if self.is_callable:
            return None, False
        if self._map_location is None:
            return tag, tag in self._demanded
        if isinstance(self._map_location, Mapping):
            mapped = self._map_location.get(tag)
            return (tag, tag in self._demanded) if mapped is None else (tag_of(mapped), True)
        return tag_of(self._map_location), True

    def place(self, storage: Any, tag: str) -> Any:
        """The storage (on the CPU, filled) where it belongs."""
        target, is_demanded = self.target(tag)
        if target is None:
            placed = self._map_location(storage, tag)
            if placed is not None:
                return getattr(placed, "_untyped_storage", placed)
            target, is_demanded = tag, tag in self._demanded
        if target == "cpu" or target.partition(":")[0] in WITHOUT_STORAGES:
            return storage
        if not is_demanded and not self.has(target):
            self.absent.add(target)
            return storage
        return self._restore(storage, target)

    def tensor_device(self, tag: str) -> str:
        """The device of a tensor that has no storage of its own: one that wraps others, or one of WITHOUT_STORAGES."""
        target, is_demanded = self.target(tag)
        target = tag if target is None else target
        if is_demanded or target in ("cpu", "meta") or self.has(target):
            return target
        self.absent.add(target)
        return "cpu"

    def has(self, tag: str) -> bool:
        """Whether this host has the device of a tag: whether a byte can be put there."""
        present = self._present.get(tag)
        if present is None:
            import torch  # pylint: disable=import-outside-toplevel

            try:
                if tag.partition(":")[0] in WITHOUT_STORAGES:
                    torch.empty(1, dtype=torch.uint8, device=tag)
                else:
                    self._restore(torch.UntypedStorage(1), tag)
                present = True
            except Exception:  # pylint: disable=broad-except  # each backend has its own way to say that it is not there
                present = False
            self._present[tag] = present
        return present
