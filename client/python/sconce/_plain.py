"""Makes plain data of what trainers put into checkpoints, where nothing is lost by it that data could hold."""

from __future__ import annotations

import argparse
import collections
import collections.abc
import enum
import os
import types
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

__all__ = ["to_plain"]

_SCALARS = (bool, int, float, complex, str, bytes)
_AS_IS = {*_SCALARS, type(None), bytearray}
_DICTS = {dict, collections.OrderedDict, collections.Counter}


def to_plain(value: Any) -> Any:
    """The value with these replaced wherever they stand in dicts, lists, tuples and sets, also as keys:

    * subclasses of dict (Lightning's AttributeDict, defaultdict) and other mappings by dict; OrderedDict and Counter stay
    * subclasses of list, tuple, set, str, int, float, complex and bytes by those (a namedtuple by a tuple, torch.Size and numpy's numbers stay)
    * enums by their values; paths by str; Namespace and SimpleNamespace by a dict of what they have; frozenset by set; deque and range by list

    Everything else stays as it is, tensors among it: what cannot be stored then is refused by name when it is saved. The object itself is not
    changed; what was one object in two places is one afterwards.

    >>> import pathlib
    >>> to_plain({"hyper_parameters": argparse.Namespace(lr=0.1, root=pathlib.PurePosixPath("/data")), "sizes": collections.deque([1, 2])})
    {'hyper_parameters': {'lr': 0.1, 'root': '/data'}, 'sizes': [1, 2]}
    """
    return _Converter().convert(value)


class _Converter:
    def __init__(self) -> None:
        self._made: Dict[int, Any] = {}
        self._open: Set[int] = set()
        self._kept: List[Any] = []  # so that no id is given out twice

    def convert(self, value: Any) -> Any:
        kind = type(value)
        if kind in _AS_IS:
            return value
        identity = id(value)
        if identity in self._made:
            return self._made[identity]
        convert = _converter_of(kind)
        if convert is None or identity in self._open:  # a cycle is refused when it is saved, with its path
            return value
        self._open.add(identity)
        made = convert(self, value)
        self._open.discard(identity)
        self._made[identity] = made
        self._kept.append(value)
        return made

    def mapping(self, value: Any) -> Any:
        made = {self.convert(key): self.convert(each) for key, each in value.items()}
        kind = type(value)
        if kind not in _DICTS:
            return made
        if all(made_key is key and made_each is each for (made_key, made_each), (key, each) in zip(made.items(), value.items())):
            return value  # with the attributes that an OrderedDict may have
        if kind is dict:
            return made
        result = kind(made)
        result.__dict__.update(value.__dict__)
        return result

    def elements(self, value: Any) -> List[Any]:
        return [self.convert(each) for each in value]


_Convert = Callable[[_Converter, Any], Any]


def _is_numpy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "numpy"


def _converter_of(kind: type) -> Optional[_Convert]:
    """How values of a type are converted; None for those that stay."""
    if kind.__module__.partition(".")[0] == "torch" or _is_numpy(kind):
        return None
    if issubclass(kind, enum.Enum):
        return lambda converter, value: converter.convert(value.value)
    if issubclass(kind, collections.abc.Mapping):
        return _Converter.mapping
    containers: Tuple[Tuple[Tuple[type, ...], Callable[[Any], Any]], ...] = (
        ((list, collections.deque, range), list),
        ((tuple,), tuple),
        ((set, frozenset), set),
    )
    for bases, make in containers:
        if issubclass(kind, bases):
            return lambda converter, value: _same_or(value, make(converter.elements(value)))
    if issubclass(kind, os.PathLike):
        return lambda converter, value: os.fspath(value)
    if issubclass(kind, (argparse.Namespace, types.SimpleNamespace)):
        return lambda converter, value: converter.convert(vars(value))
    for base in _SCALARS:
        if issubclass(kind, base):
            return lambda converter, value: _base_value(base, value)
    return None


def _same_or(value: Any, made: Any) -> Any:
    """The value itself when nothing of it was converted."""
    if type(value) is type(made) and all(one is other for one, other in zip(value, made)):
        return value
    return made


def _base_value(base: type, value: Any) -> Any:
    """Not by str(value), which a subclass may give another meaning."""
    if base is str:
        return str.__str__(value)
    if base is bytes:
        return bytes.__getitem__(value, slice(None))
    return getattr(base, "__add__")(value, base(0)) if base is not bool else bool(value)
