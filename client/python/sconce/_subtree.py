"""Some nodes of a manifest, with all that is below them, as a manifest of their own."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from sconce._nodes import NO_INDEX, Kind, Manifest, Node, Storage, TensorView

__all__ = ["subtree"]


def subtree(manifest: Manifest, roots: Sequence[int]) -> Tuple[Manifest, List[int]]:
    """A manifest of the list of these nodes, and which storage of `manifest` each of its storages is."""
    wanted = bytearray(len(manifest.nodes))
    for root in roots:
        wanted[root] = 1
    for index in range(len(manifest.nodes) - 1, -1, -1):  # parents stand behind their children
        if wanted[index]:
            for child in manifest.nodes[index].children:
                wanted[child] = 1
    copier = _Copier(manifest)
    numbers: Dict[int, int] = {}
    nodes: List[Node] = []
    for index, node in enumerate(manifest.nodes):
        if wanted[index]:
            numbers[index] = len(nodes)
            children = tuple([numbers[child] for child in node.children])
            nodes.append(Node(node.kind, node.value, children, copier.tensor(node.tensor), copier.storage(node.storage)))
    nodes.append(Node(Kind.LIST, None, tuple([numbers[root] for root in roots])))
    return Manifest(nodes, copier.tensors, copier.storages, manifest.derived), copier.origins


class _Copier:
    """Gives tensors and storages their new numbers as they are met."""

    def __init__(self, manifest: Manifest) -> None:
        self.tensors: List[TensorView] = []
        self.storages: List[Storage] = []
        self.origins: List[int] = []  # number in `manifest`, of each of `storages`
        self._manifest = manifest
        self._numbers: Dict[int, int] = {}

    def tensor(self, index: int) -> int:
        if index == NO_INDEX:
            return NO_INDEX
        view = self._manifest.tensors[index]
        storage = self.storage(view.storage)
        copy = TensorView(view.dtype, view.shape, view.stride, storage, view.offset, view.requires_grad, view.conjugate, view.negative)
        self.tensors.append(copy)
        return len(self.tensors) - 1

    def storage(self, index: int) -> int:
        if index == NO_INDEX:
            return NO_INDEX
        number = self._numbers.get(index)
        if number is None:
            number = self._numbers[index] = len(self.storages)
            self.storages.append(self._manifest.storages[index])
            self.origins.append(index)
        return number
