"""torch.save and torch.load for which `sconce://host[:port]/[project/]run[@selector]` is a place like any other.

    from sconce import torch as checkpoints

    checkpoints.save({"model": model.state_dict()}, "sconce://gpu-7/vision/resnet50", metrics={"loss": loss})
    checkpoints.load("sconce://gpu-7/vision/resnet50@best", map_location="cpu")
    checkpoints.save(model.state_dict(), "model.pt")                 # torch.save itself

Other paths and files go to PyTorch's own functions with all arguments, so that these can stand in for them throughout a program.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Optional

from sconce import _refs
from sconce._client import Client, connect
from sconce._info import CheckpointInfo
from sconce._run import Run

__all__ = ["load", "save"]

_OF_PICKLE = ("pickle_module", "pickle_protocol", "_use_new_zipfile_serialization", "_disable_byteorder_record")


def save(obj: Any, f: Any, *arguments: Any, **options: Any) -> Optional[CheckpointInfo]:
    """torch.save(obj, f), or Run.save to a `sconce://` reference, whose version is returned.

    options: of Run.save for a reference, of torch.save otherwise. What torch.save takes about pickles is accepted and without meaning for a reference.
    """
    ref = _ref(f)
    if ref is None:
        import torch  # pylint: disable=import-outside-toplevel

        torch.save(obj, f, *arguments, **options)
        return None
    if ref.selector:
        raise _refs.invalid("ARGUMENT_INVALID", f"versions get their numbers from the server: save to {ref.run}, without @{ref.selector}", {"name": str(f)})
    return _run(ref).save(obj, **{name: value for name, value in options.items() if name not in _OF_PICKLE})


def load(
    f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: Optional[bool] = None, mmap: Optional[bool] = None, **options: Any
) -> Any:
    """torch.load(f, ...), or Run.load of a `sconce://` reference, without @ of the latest version.

    options: of Run.load for a reference (dtype, only, exclude, branch, progress), of torch.load otherwise. For a reference pickle_module, weights_only and mmap
    are accepted and without meaning: no pickle is read, no code of a checkpoint's is run, and bytes go straight into the tensors.
    """
    ref = _ref(f)
    if ref is not None:
        return _run(ref).load(ref.selector or "latest", map_location=map_location, **options)
    import torch  # pylint: disable=import-outside-toplevel

    given = {"pickle_module": pickle_module, "weights_only": weights_only, "mmap": mmap}
    return torch.load(f, map_location, **{name: value for name, value in given.items() if value is not None}, **options)


def _ref(f: Any) -> Optional[_refs.Ref]:
    """What is meant by a reference; None for all else.

    >>> _ref("sconce://gpu-7/r@best").checkpoint_name
    'projects/default/runs/r/checkpoints/best'
    >>> import pathlib
    >>> _ref(pathlib.Path("sconce://gpu-7/vision/r")).run_name  # which pathlib makes one slash of
    'projects/vision/runs/r'
    >>> _ref("model.pt") is _ref(b"sconce://") is _ref(open) is None
    True
    """
    text = os.fspath(f) if isinstance(f, os.PathLike) else f
    if not isinstance(text, str) or not re.match("sconce:/", text):
        return None
    return _refs.parse(re.sub("^sconce:/+", _refs.SCHEME, text))


def _run(ref: _refs.Ref) -> Run:
    settings = tuple(os.environ.get(name, "") for name in ("SCONCE_TOKEN", "SCONCE_CACERT"))
    return _client(ref.target, settings).run(ref.run_name)


@functools.lru_cache(maxsize=16)
def _client(target: str, _settings: Any) -> Client:
    """One for all calls of this process; another one when the settings have changed."""
    return connect(target)
