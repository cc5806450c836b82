"""One gRPC channel per process, made when it is first needed.

A channel does not survive a fork: its threads stay behind, and the child shares its socket. So a child (a DataLoader's worker, say) makes a channel of its
own, and never touches its parent's, not even to close it. gRPC sets limits to that:

* While a call is under way in another thread it does not prepare for the fork, and a child that uses it shares its parent's epoll set: the parent then
  crashes (seen with 1.51).
* Older releases prepare for a fork by joining a thread that may wait for the fork to be over: the parent then hangs (seen with 1.51, soon after a call,
  on a busy machine; never with 1.85). There the preparation is turned off, unless GRPC_ENABLE_FORK_SUPPORT says otherwise; without it a child hangs.
  It does not help the 1.51 of Debian 13 and testing: that one hangs at any fork after a call, in programs without this package too.

A parent that hangs is worse than a child that must be spawned. So where a child cannot use gRPC it is told so, and a fork at which the parent is known to hang is
warned of.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from typing import Any, List, Optional, Tuple

import grpc

from sconce._options import Options
from sconce._version import __version__

_MAX_RECEIVE_BYTES = 64 << 20


_NOT_AFTER_FORK = (
    "gRPC cannot be used in this process: it was forked from one that was calling a Sconce server in another thread, or in which this release of gRPC was in "
    'use already; fork before the first call, or spawn processes instead (multiprocessing_context="spawn")'
)
_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_FIRST_THAT_FORKS = (1, 80)


class CallsUnderWay:
    """How many calls of this package go on in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.at_fork = 0  # how many went on in the parent when this process was forked

    def begin(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1

    def end(self) -> None:
        """One less."""
        with self._lock:
            self._count -= 1

    def forked(self) -> None:
        """In a child, which has none of them."""
        self._lock = threading.Lock()
        self.at_fork = max(self.at_fork, self._count)
        self._count = 0


calls_under_way = CallsUnderWay()


class ProcessChannel:
    """The channel of this process. Thread-safe."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._channel: Optional[Any] = None
        self._closed = False
        _all.add(self)

    def get(self) -> Any:
        """The channel, not necessarily connected. ValueError after close(); RuntimeError in a child that cannot have one."""
        if calls_under_way.at_fork or (_of_parents and not _forks_are_prepared()):
            raise RuntimeError(_NOT_AFTER_FORK)
        with self._lock:
            if self._closed:
                raise ValueError("this client is closed")
            if self._channel is None:
                self._channel = _make_channel(self._options)
            return self._channel

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def close(self) -> None:
        """Ends the calls that go over it. May be called again."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _forget(self) -> None:
        """In a child: another thread of the parent may hold the lock, forever."""
        self._lock = threading.Lock()
        if self._channel is not None:
            _of_parents.append(self._channel)
            self._channel = None


    @property
    def is_made(self) -> bool:
        """Whether there is a channel in this process."""
        return self._channel is not None


_all: "weakref.WeakSet[ProcessChannel]" = weakref.WeakSet()
_of_parents: List[Any] = []  # kept, for a channel that is collected closes itself


def _forget_all() -> None:
    calls_under_way.forked()
    for channel in list(_all):
        channel._forget()  # pylint: disable=protected-access


_warned = False


def _warn_before_fork() -> None:
    """In the parent: says what it hangs by, if it does."""
    global _warned  # pylint: disable=global-statement
    if _warned or not _hangs_at_forks() or not any(channel.is_made for channel in list(_all)):
        return
    _warned = True
    message = (
        f"this process forks after a call to a Sconce server, and grpcio {grpc.__version__} hangs at that, whoever calls; fork before the first call, "
        'spawn processes instead (multiprocessing_context="spawn"), or install grpcio 1.80 or newer'
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_warn_before_fork, after_in_child=_forget_all)


def _channel_arguments() -> List[Tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that was restarted is found again as soon as calls are tried again, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),  # they are made in code, with what the server says about them
        ("grpc.primary_user_agent", f"sconce-python/{__version__}"),
    ]


def _forks_are_prepared() -> bool:
    wanted = os.environ.get(_FORK_SUPPORT)
    if wanted is not None:
        return wanted.lower() in ("1", "true", "yes", "y")
    return tuple(int(part) for part in grpc.__version__.split(".")[:2]) >= _FIRST_THAT_FORKS


def _hangs_at_forks() -> bool:
    """Whether a parent hangs: an old release that prepares, and the 1.51 of Debian 13 and testing, known by their Python."""
    version = tuple(int(part) for part in grpc.__version__.split(".")[:2])
    return version < _FIRST_THAT_FORKS and (_forks_are_prepared() or (version == (1, 51) and sys.version_info >= (3, 12)))


def _make_channel(options: Options) -> Any:
    if not _forks_are_prepared():
        os.environ[_FORK_SUPPORT] = "0"  # read with the first channel of the process
    if not options.tls:
        return grpc.insecure_channel(options.target, options=_channel_arguments())
    credentials = grpc.ssl_channel_credentials(options.root_certificates, options.private_key, options.certificate_chain)
    return grpc.secure_channel(options.target, credentials, options=_channel_arguments())
