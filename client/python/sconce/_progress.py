"""Progress of transfers: a bar of tqdm's where somebody looks at it, or whatever the caller wants."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Callable, Iterator, Optional, Union

Report = Callable[[int, int], None]  # bytes done, bytes in all
Wanted = Union[None, bool, Report]


@contextlib.contextmanager
def reporting(wanted: Wanted, description: str) -> Iterator[Optional[Report]]:
    """What a transfer should call as bytes move; None when nobody wants to know.

    wanted: a callable, which gets (done, total); False for nothing; True for a bar; None for a bar when stderr is a terminal, in the rank 0 of a distributed
    job, and SCONCE_DISABLE_PROGRESS_BARS is not set. Without tqdm there is no bar.

    >>> with reporting(False, "r@1") as report:
    ...     report is None
    True
    """
    if callable(wanted):
        yield wanted
        return
    tqdm = _tqdm() if wanted or (wanted is None and _somebody_looks()) else None
    if tqdm is None:
        yield None
        return
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=description) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _somebody_looks() -> bool:
    disabled = os.environ.get("SCONCE_DISABLE_PROGRESS_BARS", "").lower() not in ("", "0", "false", "no", "off")
    return not disabled and sys.stderr is not None and sys.stderr.isatty() and _rank() == 0


def _rank() -> int:
    """Of this process in a distributed job; 0 when there is none. torch is asked only if it is there already."""
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdigit() else 0


def _tqdm() -> Optional[Any]:
    try:
        from tqdm.auto import tqdm  # pylint: disable=import-outside-toplevel
    except ImportError:
        return None
    return tqdm
