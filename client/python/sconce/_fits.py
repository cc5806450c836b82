"""What the adapters to other libraries share."""

from __future__ import annotations

from typing import Union

from sconce import _refs
from sconce._client import connect
from sconce._connection import Connection
from sconce._run import Run


def run_of(run: Union[Run, str]) -> Run:
    """A run that was given as one, or by a ref such as "vision/resnet50" or "sconce://gpu-7/resnet50". InvalidArgumentError for another ref."""
    if isinstance(run, Run):
        return run
    ref = _refs.parse_run(run)
    return connect(ref.target or None).run(run)


def connection_of(run: Run) -> Connection:
    """What the run's calls go through."""
    return run._connection  # pylint: disable=protected-access


def ref_of(run: Run) -> _refs.Ref:
    """The run's name."""
    return run._ref  # pylint: disable=protected-access
