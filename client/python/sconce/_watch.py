"""Follows what a selector means, across reconnects and restarts of the server.

1. Watch the run. The first message is a heartbeat that says where the watch begins; only then look what the selector means now, so nothing falls between.
2. After each change that can move the selector, see which version it means, and yield that if it is another one than before.
3. When the stream breaks, go on after the last revision seen: nothing is missed. When the server does not keep that far back any more, begin at 1.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator, Optional

from sconce._connection import Connection
from sconce._errors import NotFoundError, OutOfRangeError, SconceError, make_error
from sconce._info import CheckpointInfo
from sconce._proto import enum_number, v1
from sconce._refs import Ref
from sconce._retry import Retrying

_SERVICE = "sconce.v1.CheckpointService"
_EVENT = "sconce.v1.WatchCheckpointsResponse.Event"
_COMMITTED, _DELETED, _QUARANTINED, _HEALED, _ALIAS_MOVED, _ALIAS_DELETED, _RUN_DELETED = (
    enum_number(_EVENT, name) for name in ("COMMITTED", "DELETED", "QUARANTINED", "HEALED", "ALIAS_MOVED", "ALIAS_DELETED", "RUN_DELETED")
)
_UNDEFINED = ("CHECKPOINT_NOT_FOUND", "ALIAS_NOT_FOUND", "LATEST_UNDEFINED", "BEST_UNDEFINED")


def watch(connection: Connection, ref: Ref, patience: float) -> Iterator[CheckpointInfo]:
    """See Run.watch."""
    return _Watch(connection, ref, patience).versions()


class _Watch:
    def __init__(self, connection: Connection, ref: Ref, patience: float) -> None:
        self._connection = connection
        self._ref = ref
        self._patience = patience
        self._revision = 0
        self._yielded = 0  # the version; 0 when there is none

    def versions(self) -> Iterator[CheckpointInfo]:
        while not self._connection.closed:
            try:
                for message in self._messages():
                    found = self._new_version(message)
                    if found is not None:
                        yield found
            except OutOfRangeError as error:
                if error.reason != "REVISION_NOT_KEPT" or self._revision == 0:
                    raise
                self._revision = 0

    def _messages(self) -> Iterator[Any]:
        """The messages of one watch, over as many streams as it takes; None in place of the heartbeat with which a watch begins that has seen nothing."""
        # Attempts are without number, and their time is limited instead: a server may be restarted at leisure.
        retrying = Retrying(self._connection.options.retry.for_watches())
        lost: Optional[float] = None  # since when
        while True:
            request = v1.WatchCheckpointsRequest(parent=self._ref.run_name, after_revision=self._revision)
            try:
                with contextlib.closing(self._connection.stream(f"{_SERVICE}/WatchCheckpoints", request, stall_timeout=0)) as stream:
                    for message in stream:
                        lost = None
                        retrying.progress()
                        first = self._revision == 0
                        self._revision = message.revision
                        yield None if first else message
                raise make_error("UNAVAILABLE", "SERVER_UNREACHABLE", "the server ended the watch")
            except SconceError as error:
                if self._connection.closed:
                    return
                lost = lost or time.monotonic()
                if time.monotonic() - lost >= self._patience:
                    raise
                retrying.wait(error)

    def _new_version(self, message: Optional[Any]) -> Optional[CheckpointInfo]:
        """The version that the selector means after this message, if it is another one than before."""
        if message is None:
            return self._look(self._ref.selector)
        if message.event == _RUN_DELETED:
            raise make_error("NOT_FOUND", "RUN_NOT_FOUND", f"run {self._ref} was deleted", {"run": self._ref.run_name})
        if self._ref.selector == "latest" and message.event == _COMMITTED:
            # By number, so that each one is told of. Those before the first look were overtaken by it.
            version = message.checkpoint.version
            return self._look(str(version)) if version > self._yielded else None
        if self._ref.selector == "latest" and message.event in (_DELETED, _QUARANTINED, _HEALED):
            return self._look("latest")
        if message.event in (_ALIAS_MOVED, _ALIAS_DELETED) and message.alias == self._ref.selector:
            return self._look(self._ref.selector)
        return None

    def _look(self, selector: str) -> Optional[CheckpointInfo]:
        request = v1.GetCheckpointRequest(name=f"{self._ref.run_name}/checkpoints/{selector}")
        try:
            found = CheckpointInfo.from_message(self._connection.call(f"{_SERVICE}/GetCheckpoint", request))
        except NotFoundError as error:
            if error.reason not in _UNDEFINED:
                raise
            if selector == self._ref.selector:
                self._yielded = 0  # it means nothing now; when it means the same version again, that is news
            return None  # of a number: it was deleted since
        if found.version == self._yielded:
            return None
        self._yielded = found.version
        return found
