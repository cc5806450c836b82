"""The tree that the ranks of a torch.distributed.checkpoint save write together, each a part of it.

DCP flattens a state dict: "model.fc.weight" stands for the path ("model", "fc.weight"). The parts have the paths again, so that what is stored is
the nested state dict itself. The server unites dicts, and shards of one tensor, but not lists: a list is written by one rank.

* What has no list in its path is written by the rank that DCP chose.
* A list without tensors, such as an optimizer's `param_groups`, goes value by value with the results to the coordinator, which writes it.
* A list with tensors becomes a dict with its indices as keys, for its tensors are on several ranks.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from sconce._shards import Dims, Shards

__all__ = ["Path", "PartTree", "list_of", "lists_with_tensors", "path_of"]

Path = Tuple[Union[str, int], ...]  # ints are indices of lists


def path_of(mappings: Any, fqn: str) -> Path:
    """Where a value stands, by the planner's mappings; at the top where there are none, because the state dict was not flattened.

    >>> path_of({"optim.groups.0.lr": ("optim", "groups", 0, "lr")}, "optim.groups.0.lr"), path_of(None, "fc.weight")
    (('optim', 'groups', 0, 'lr'), ('fc.weight',))
    """
    if isinstance(mappings, Mapping) and fqn in mappings:
        return tuple(mappings[fqn])
    return (fqn,)


def list_of(path: Path) -> Optional[Path]:
    """The outermost list that a path leads through; None when there is none.

    >>> list_of(("optim", "groups", 0, "lr")), list_of(("model", "fc.weight"))
    (('optim', 'groups'), None)
    """
    for at, step in enumerate(path):
        if isinstance(step, int):
            return path[:at]
    return None


def lists_with_tensors(paths: Iterable[Path]) -> FrozenSet[Path]:
    """The outermost lists of the tensors at these paths."""
    return frozenset(place for place in map(list_of, paths) if place is not None)


class PartTree:
    """What one rank writes: nested dicts. `root` is to be captured."""

    def __init__(self) -> None:
        self.root: Dict[Any, Any] = {}
        self._shards: Dict[Path, Shards] = {}

    def put(self, path: Path, value: Any) -> None:
        """Puts a value where it belongs."""
        at = self.root
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = value

    def put_shard(self, path: Path, size: Dims, offsets: Dims, tensor: Any) -> None:
        """Adds to the sharded tensor at the path."""
        shards = self._shards.get(path)
        if shards is None:
            shards = self._shards[path] = Shards(size, [])
            self.put(path, shards)
        shards.pieces.append((offsets, tensor))

    def put_lists(self, values: Iterable[Tuple[Path, Any]]) -> None:
        """Puts values that stand in lists, of which all are given."""
        lists = set()
        for path, value in values:
            self.put(path, value)
            lists.add(list_of(path))
        for place in lists:
            if place:
                self.put(place, _as_list(self._at(place)))

    def _at(self, path: Path) -> Any:
        at: Any = self.root
        for step in path:
            at = at[step]
        return at


def _as_list(value: Any) -> Any:
    """A dict whose keys are all the indices of a list as that list, and likewise what is in it.

    >>> _as_list({0: {"lr": 0.1, "betas": {1: 3, 0: 2}}, 1: {}}), _as_list({1: "the first one, an empty dict, is not there"})
    ([{'lr': 0.1, 'betas': [2, 3]}, {}], {1: 'the first one, an empty dict, is not there'})
    """
    if type(value) is not dict:
        return value
    made = {key: _as_list(each) for key, each in value.items()}
    if not made or any(type(key) is not int for key in made) or sorted(made) != list(range(len(made))):
        return made
    in_order: List[Any] = [made[index] for index in range(len(made))]
    return in_order
