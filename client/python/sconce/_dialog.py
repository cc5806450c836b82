"""A call with many messages both ways.

Whoever holds the dialog sends and receives on one thread. A second thread takes the server's messages as they come, and gRPC has one that takes ours, so
that neither side waits for the other to read. What is sent waits in a short queue: when gRPC takes no more, because the server's flow control holds it
back, send() waits, and memory stays bounded.
"""

from __future__ import annotations

import collections
import threading
from typing import Any, Callable, Deque, Iterator, Optional

import grpc

from sconce._channel import calls_under_way
from sconce._errors import SconceError, from_rpc_error
from sconce._stream import stalled

_QUEUED_MESSAGES = 2


class Dialog:
    """One such call. To be used by one thread, and closed."""

    def __init__(self, start: Callable[[Iterator[bytes]], Any], target: str, stall_timeout: float) -> None:
        self._target = target
        self._stall_timeout = stall_timeout
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._to_send: Deque[bytes] = collections.deque()
        self._received: Deque[Any] = collections.deque()  # few: each answers something that was sent
        self._half_closed = False
        self._over = False
        self._error: Optional[SconceError] = None
        self._closed = False  # of the holder's thread
        self._moves = 0  # messages taken, by gRPC or from the server
        calls_under_way.begin()
        self._call = start(self._outgoing())
        self._reader = threading.Thread(target=self._read, name="sconce-dialog", daemon=True)
        self._reader.start()

    def send(self, message: bytes) -> bool:
        """False when the call is over: ask finish() why. SconceError when nothing moves any more."""
        with self._changed:
            self._wait(lambda: self._over or len(self._to_send) < _QUEUED_MESSAGES)
            if self._over:
                return False
            self._to_send.append(message)
            self._changed.notify_all()
            return True

    def receive(self, wait: bool) -> Optional[Any]:
        """The next message; None when there is none now or, having waited, when the call is over. SconceError when nothing moves any more."""
        with self._changed:
            if wait:
                self._wait(lambda: self._over or bool(self._received))
            return self._received.popleft() if self._received else None

    def half_close(self) -> None:
        """No more is sent."""
        with self._changed:
            self._half_closed = True
            self._changed.notify_all()

    def finish(self) -> None:
        """To be called when receive() or send() said that the call is over. Raises what it ended with, unless that is OK."""
        self._reader.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the call if it goes on still."""
        with self._changed:
            self._half_closed = True
            self._changed.notify_all()
        if not self._over:
            self._call.cancel()
        self._reader.join()
        if not self._closed:
            self._closed = True
            calls_under_way.end()

    def __enter__(self) -> Dialog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            before = self._moves
            if not self._changed.wait(self._stall_timeout) and not done() and self._moves == before:
                raise stalled(self._stall_timeout)

    def _outgoing(self) -> Iterator[bytes]:
        """gRPC's thread takes the messages here: the next one when the one before is on its way."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._half_closed or self._to_send)
                if self._over or not self._to_send:
                    return
                message = self._to_send.popleft()
                self._moves += 1
                self._changed.notify_all()
            yield message

    def _read(self) -> None:
        error = None
        try:
            for message in self._call:
                with self._changed:
                    self._received.append(message)
                    self._moves += 1
                    self._changed.notify_all()
        except grpc.RpcError as failure:
            error = from_rpc_error(failure, self._target)
        finally:
            with self._changed:
                self._error = error
                self._over = True
                self._changed.notify_all()
