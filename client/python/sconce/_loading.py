"""Loads a version, or part of it, as an object: the server selects, maps devices and casts; the bytes go straight into the tensors' memory."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from sconce import _fetch, _progress, _refs
from sconce._connection import Connection
from sconce._map_location import split
from sconce._restore import Restorer

Patterns = Union[None, str, Sequence[str]]


def load(
    connection: Connection,
    ref: _refs.Ref,
    *,
    map_location: Any = None,
    dtype: Any = None,
    only: Patterns = None,
    exclude: Patterns = None,
    branch: str = "",
    progress: _progress.Wanted = None,
) -> Any:
    """See Run.load."""
    places = split(map_location)
    fetch = _fetch.begin_fetch(
        connection,
        ref.checkpoint_name,
        {"root": branch, "include": patterns(only), "exclude": patterns(exclude)},
        {"device": places.device, "remap": places.remap},
        cast(dtype),
    )
    with fetch:
        restorer = Restorer(fetch.manifest_bytes, map_location=places.client, demanded=sorted(places.demanded))
        fill(fetch, restorer, progress)
    return restorer.finish()


def fill(fetch: _fetch.BulkSource, restorer: Restorer, progress: _progress.Wanted) -> None:
    """Reads the bulk stream into the restorer's memory. A storage for another device goes there when it is whole."""
    sizes = [restorer.manifest.storages[index].size_bytes for index in restorer.bulk]
    with _progress.reporting(progress, str(_refs.parse(fetch.header.checkpoint.name))) as report:
        fetch.read_into(restorer.buffers, report, sizes=sizes, complete=restorer.complete)


def patterns(given: Patterns) -> List[str]:
    """One pattern or several, as a list.

    >>> patterns("/model/**"), patterns(["/a", "/b"]), patterns(None)
    (['/model/**'], ['/a', '/b'], [])
    """
    if given is None:
        return []
    return [given] if isinstance(given, str) else list(given)


def cast(dtype: Any) -> Optional[Dict[str, Any]]:
    """A DtypeCast's fields: one dtype for all floats, or a mapping from patterns to dtypes (None: as saved); as torch.dtype or by name.

    >>> cast("bfloat16"), cast({"/model/**": "torch.float16", "/head": None}), cast(None)
    ({'dtype': 'bfloat16'}, {'rules': [{'pattern': '/model/**', 'dtype': 'float16'}, {'pattern': '/head', 'dtype': ''}]}, None)
    """
    if dtype is None:
        return None
    if isinstance(dtype, Mapping):
        return {"rules": [{"pattern": pattern, "dtype": _dtype_name(each)} for pattern, each in dtype.items()]}
    return {"dtype": _dtype_name(dtype)}


def _dtype_name(dtype: Any) -> str:
    if dtype is None:
        return ""
    name = str(dtype)
    return name[len("torch.") :] if name.startswith("torch.") else name
