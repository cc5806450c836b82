"""A call that answers with many messages, and the watch over it that ends it when nothing comes."""

from __future__ import annotations

import threading
import time
from typing import Any, Iterator, Optional

import grpc

from sconce._channel import calls_under_way
from sconce._errors import SconceError, from_rpc_error, make_error


def stalled(seconds: float) -> SconceError:
    """What a stream failed with on which nothing moved."""
    return make_error("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED", f"nothing moved on the stream for {seconds:g} s")


class ServerStream:
    """Iterates over the answers. To be used by one thread, and closed. Raises SconceError."""

    def __init__(self, call: Any, target: str, stall_timeout: float) -> None:
        self._call = call
        self._target = target
        self._stall_timeout = stall_timeout
        self._lock = threading.Lock()
        self._closed = False  # guarded by _lock
        calls_under_way.begin()
        self._watch = _Watch(call.cancel, stall_timeout) if stall_timeout else None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        watch = self._watch
        if watch is not None:
            watch.arm()
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if watch is not None and watch.fired:
                raise stalled(self._stall_timeout) from None
            raise from_rpc_error(error, self._target) from None
        finally:
            if watch is not None:
                watch.disarm()

    def close(self) -> None:
        """Ends the call. May be called again, also by another thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._watch is not None:
            self._watch.stop()
        self._call.cancel()
        calls_under_way.end()

    def __enter__(self) -> ServerStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Watch:
    """Calls `fire` when it stays armed for so long, on a thread of its own that begins with the first arming."""

    def __init__(self, fire: Any, timeout: float) -> None:
        self.fired = False
        self._fire = fire
        self._timeout = timeout
        self._changed = threading.Condition()
        self._deadline: Optional[float] = None
        self._asleep = False  # until it is armed
        self._stopped = False
        self._thread: Optional[threading.Thread] = None

    def arm(self) -> None:
        with self._changed:
            self._deadline = time.monotonic() + self._timeout
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="sconce-watch", daemon=True)
                self._thread.start()
            if self._asleep:
                self._changed.notify()

    def disarm(self) -> None:
        # The thread is not woken for it: it finds out when its time has come.
        self._deadline = None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                deadline = self._deadline
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self.fired = True
                    break
                self._asleep = left is None
                self._changed.wait(left)
                self._asleep = False
        if self.fired:
            self._fire()
