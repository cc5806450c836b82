"""Saves that go on while the caller trains: one at a time for each client, on a thread of its own, and none is lost without a word.

An error is told once: by the future, by the next save or wait of the client, or, when the process ends before either, by a line on stderr. The process does
not end before the save does, for the thread is no daemon; a fork leaves it with the parent.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import sys
import threading
import weakref
from typing import Any, Callable, Iterator, Optional, Set

from sconce._errors import DeadlineError, make_error
from sconce._info import CheckpointInfo

_QUIET_SECONDS = 3.0  # that the end of a process may wait before it says for what

Work = Callable[["SaveFuture"], CheckpointInfo]


class SaveFuture:
    """A save that is under way. Thread-safe."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._future: concurrent.futures.Future[CheckpointInfo] = concurrent.futures.Future()
        self._process = os.getpid()
        self._bytes = (0, 0)  # done, in all

    def __repr__(self) -> str:
        if self._process != os.getpid():
            state = "of another process"
        elif not self.done():
            state = f"under way, {self._bytes[0]} of {self._bytes[1]} bytes"
        else:
            error = self._future.exception()
            state = repr(error) if error is not None else f"saved as {self._future.result().ref}"
        return f"<sconce.SaveFuture of {self._description}: {state}>"

    def done(self) -> bool:
        """Whether it is over, with or without success. False in a child of a fork that came before."""
        return self._process == os.getpid() and self._future.done()

    def result(self, timeout: Optional[float] = None) -> CheckpointInfo:
        """The version, once there is one. What the save failed with is raised, as often as it is asked for. DeadlineError (a TimeoutError) when it takes longer than
        `timeout` seconds: it goes on then. RuntimeError in a child of a fork, which does not see its parent's saves."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._future.result()

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """What it failed with, once it is over; None for nothing. Otherwise as result()."""
        if self._process != os.getpid():
            raise RuntimeError("this save belongs to the process that this one was forked from: ask there")
        try:
            error = self._future.exception(timeout)
        except concurrent.futures.TimeoutError:
            raise _takes_longer(self._description, timeout) from None
        _unseen.discard(self)
        return error

    def add_done_callback(self, call: Callable[[SaveFuture], Any]) -> None:
        """Calls it with this future when the save is over, on the thread that saved; at once when it is over already."""
        self._future.add_done_callback(lambda _: call(self))

    def report(self, done: int, total: int) -> None:
        """So much is saved of it. For the thread that saves."""
        self._bytes = (done, total)

    def _run(self, work: Work) -> None:
        try:
            info = work(self)
        except BaseException as error:  # pylint: disable=broad-except  # whoever asks gets it
            _unseen.add(self)
            self._future.set_exception(error)
        else:
            self._future.set_result(info)


def _takes_longer(description: str, timeout: Optional[float]) -> DeadlineError:
    error = make_error("DEADLINE_EXCEEDED", "CALL_DEADLINE_EXCEEDED", f"the save of {description} is not over after {timeout:g} s; it goes on")
    assert isinstance(error, DeadlineError)
    return error


class Background:
    """The saves of a client in this process. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._current: Optional[SaveFuture] = None
        self._may_begin: Optional[threading.Event] = None
        _all.add(self)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else starts a save meanwhile, and the one before is over. Raises what that failed with, if nobody knows yet."""
        with self._turn:
            self._settle(None)
            try:
                yield
            finally:
                if self._may_begin is not None:
                    self._may_begin.set()
                    self._may_begin = None

    def start(self, description: str, work: Work) -> SaveFuture:
        """Does the work on a thread of its own. To be called in one's turn(), at whose end it begins: it would take the interpreter's lock from a caller that has
        yet to return, and who is kept by that for milliseconds."""
        future = SaveFuture(description)
        _watch_the_end()
        may_begin = threading.Event()

        def run() -> None:
            may_begin.wait()
            future._run(work)

        threading.Thread(target=run, name="sconce-save", daemon=False).start()
        self._current, self._may_begin = future, may_begin
        return future

    def wait(self, timeout: Optional[float] = None) -> None:
        """Returns when no save is under way. Raises what the last one failed with, if nobody knows yet; DeadlineError."""
        self._settle(timeout)

    @property
    def current(self) -> Optional[SaveFuture]:
        """The last one that was started."""
        return self._current

    def _settle(self, timeout: Optional[float]) -> None:
        current = self._current
        if current is None:
            return
        if not current.done():
            concurrent.futures.wait([current._future], timeout)
            if not current.done():
                raise _takes_longer(current._description, timeout)
        if current in _unseen:
            error = current.exception()
            if error is not None:
                if hasattr(error, "add_note"):
                    error.add_note(f"(raised by the save_async of {current._description}, and told now; this call did nothing)")
                raise error

    def _forget(self) -> None:
        """In a child of a fork: the parent saves."""
        self._turn = threading.Lock()
        self._current = None
        self._may_begin = None


_all: "weakref.WeakSet[Background]" = weakref.WeakSet()
_unseen: Set[SaveFuture] = set()  # failed, and nobody knows
_watcher: Optional[threading.Thread] = None


def _watch_the_end() -> None:
    """From now on somebody says what the end of this process waits for."""
    global _watcher  # pylint: disable=global-statement
    if _watcher is None:
        _watcher = threading.Thread(target=_tell_what_is_waited_for, name="sconce-end", daemon=True)
        _watcher.start()


def _tell_what_is_waited_for() -> None:
    threading.main_thread().join()
    pending = [background.current for background in list(_all) if background.current is not None]
    concurrent.futures.wait([future._future for future in pending], _QUIET_SECONDS)
    for future in pending:
        if not future.done():
            done, total = future._bytes
            _say(f"sconce: this process ends when {future._description} is saved; {done >> 20} of {total >> 20} MiB are")


def _tell_losses() -> None:
    process = os.getpid()
    for future in [*_unseen, *(background.current for background in list(_all) if background.current is not None)]:
        if future._process == process and not future.done():
            _say(f"sconce: NOT saved: {future._description}: the process ended before")
    for future in list(_unseen):
        if future._process == process:
            _say(f"sconce: NOT saved: {future._description}: {future.exception()}")


def _say(line: str) -> None:
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def _forget_all() -> None:
    global _watcher  # pylint: disable=global-statement
    _watcher = None
    _unseen.clear()
    for background in list(_all):
        background._forget()


atexit.register(_tell_losses)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
