"""Fetches a version: its manifest first, then the bulk stream into buffers that the caller made for it.

1. Ask; the header says which version it is, and by a plan token exactly which bytes.
2. Take the manifest, and hand it over; the stream waits meanwhile (HTTP/2 flow control holds the server back).
3. Take the bulk stream in order, piece by piece; each is checked against its XXH3-128 before it is copied to where it belongs.
4. When the stream breaks, or a piece is damaged, ask again for that version with the plan, from the first byte still missing.

With several streams the bulk stream is cut into as many ranges, each read as above; the first one goes on with the stream that brought the manifest.

`BulkSource` is the seam: whoever restores a checkpoint sees only that. A way without copies on the same machine (segments of the server's files, passed over
a Unix socket and mapped) is another BulkSource, chosen in begin_fetch().
"""

from __future__ import annotations

import bisect
import itertools
import threading
from typing import Any, Callable, List, Mapping, Optional, Protocol, Sequence, Union

import xxhash

from sconce import _wire
from sconce._connection import Connection
from sconce._errors import SconceError, make_error
from sconce._proto import v1
from sconce._retry import Retrying
from sconce._stream import ServerStream

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Complete = Callable[[int], None]  # index of a buffer
Part = Union[Mapping[str, Any], Any]  # of a request: a message, or its fields

_METHOD = "sconce.v1.TransferService/FetchCheckpoint"
# Field numbers of FetchCheckpointResponse.
_HEADER, _MANIFEST, _OFFSET, _XXH3, _DATA = 1, 2, 3, 4, 15


class BulkSource(Protocol):
    """A version that is being fetched.

    header: the `sconce.v1.FetchCheckpointResponse.Header`; its `checkpoint` has the number.
    manifest_bytes: the encoded manifest, as selected, mapped and cast.
    """

    @property
    def header(self) -> Any:
        """See above."""

    @property
    def manifest_bytes(self) -> bytes:
        """See above."""

    def read_into(
        self,
        buffers: Sequence[memoryview],
        progress: Optional[Progress] = None,
        *,
        sizes: Optional[Sequence[int]] = None,
        complete: Optional[Complete] = None,
    ) -> None:
        """Fills the buffers, which are writable and together as long as the bulk stream, in its order. Once.

        An item of `buffers` is asked for when its bytes come, and let go of when it is full, of which `complete` is told with its index. `sizes` has their
        sizes, so that they are not asked for it.
        """

    def close(self) -> None:
        """Lets go of what is held for it. May be called again."""


def begin_fetch(
    connection: Connection,
    name: str,
    selection: Optional[Part] = None,
    device_mapping: Optional[Part] = None,
    cast: Optional[Part] = None,
    load_plan: Optional[Part] = None,
    *,
    streams: int = 1,
    stall_timeout: Optional[float] = None,
) -> StreamFetch:
    """Asks for a version, by `projects/{project}/runs/{run}/checkpoints/{selector}`, and takes its header and manifest.

    The result is to be closed (it is a context manager). Errors: those of FetchCheckpoint; UnavailableError when the server stays away.
    """
    request = v1.FetchCheckpointRequest(name=name, selection=selection, device_mapping=device_mapping, cast=cast, load_plan=load_plan)
    return StreamFetch(connection, request, streams, stall_timeout)


class StreamFetch:
    """A BulkSource that reads gRPC streams. To be used by one thread."""

    header: Any
    manifest_bytes: bytes

    def __init__(self, connection: Connection, request: Any, streams: int = 1, stall_timeout: Optional[float] = None) -> None:
        self._connection = connection
        self._request = request
        self._streams = streams
        self._stall_timeout = stall_timeout
        self._first = self._begin()

    def __enter__(self) -> StreamFetch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream that is open."""
        self._first.close()

    def read_into(
        self,
        buffers: Sequence[memoryview],
        progress: Optional[Progress] = None,
        *,
        sizes: Optional[Sequence[int]] = None,
        complete: Optional[Complete] = None,
    ) -> None:
        """Fills the buffers; see BulkSource. With several streams `progress` and `complete` may be called on other threads, one at a time.

        ValueError when they are not as long as the bulk stream. Errors: as begin_fetch(); ConflictError (PLAN_CHANGED) when the stream broke and the server would
        now answer otherwise; DataLossError for a chunk that is damaged on the server's disk. The buffers hold part of the bytes then.
        """
        targets = _Targets(buffers, sizes if sizes is not None else [buffer.nbytes for buffer in buffers], progress, complete)
        if targets.total != self.header.bulk_bytes:
            raise ValueError(f"the buffers hold {targets.total} bytes, and the bulk stream has {self.header.bulk_bytes}")
        edges = [targets.total * i // self._streams for i in range(self._streams + 1)]
        _read_all([_Range(self, targets, start, end) for start, end in zip(edges, edges[1:])], self._first)

    def read_range(self, start: int, buffer: memoryview) -> None:
        """Fills a buffer with the bytes of the bulk stream from `start` on; also when it is closed. Errors: as read_into()."""
        targets = _Targets([buffer], [buffer.nbytes], origin=start)
        _Range(self, targets, start, start + buffer.nbytes).read()

    def open_range(self, start: int, end: int) -> ServerStream:
        """A stream of these bytes of the bulk stream."""
        request = v1.FetchCheckpointRequest()
        request.CopyFrom(self._request)
        request.offset, request.limit, request.skip_manifest = start, end - start, True
        return self._connection.stream(_METHOD, request, raw=True, stall_timeout=self._stall_timeout)

    def retrying(self) -> Retrying:
        """For one range."""
        return Retrying(self._connection.stream_retry())

    def _begin(self) -> ServerStream:
        retrying = self.retrying()
        while True:
            stream = self._connection.stream(_METHOD, self._request, raw=True, stall_timeout=self._stall_timeout)
            try:
                self._take_header(stream)
                return stream
            except SconceError as error:
                stream.close()
                retrying.wait(error)
            except BaseException:
                stream.close()
                raise

    def _take_header(self, stream: ServerStream) -> None:
        self.header = take_header(stream)
        self._request.name, self._request.plan = self.header.checkpoint.name, self.header.plan
        pieces: List[bytes] = []
        left = self.header.manifest_bytes
        while left > 0:
            message = next(stream, None)
            if message is None:
                raise _internal(f"the server's manifest ends {left} bytes early")
            for number, value in _wire.fields(message):
                if number == _MANIFEST and isinstance(value, memoryview):
                    pieces.append(bytes(value))
                    left -= len(value)
        self.manifest_bytes = b"".join(pieces)


def take_header(stream: ServerStream) -> Any:
    """The header, which is the first message."""
    first = next(stream, None)
    header = v1.FetchCheckpointResponse.FromString(first).header if first is not None else None
    if header is None or not header.plan:
        raise _internal("the server's answer has no header")
    return header


class _Targets:
    """The buffers, and how much of each is missing still. Thread-safe."""

    def __init__(
        self,
        buffers: Sequence[memoryview],
        sizes: Sequence[int],
        progress: Optional[Progress] = None,
        complete: Optional[Complete] = None,
        origin: int = 0,
    ) -> None:
        self.total = sum(sizes)
        self._buffers = buffers
        self._progress = progress
        self._complete = complete
        self._starts = list(itertools.accumulate(sizes, initial=origin))  # of each in the bulk stream
        self._lock = threading.Lock()
        self._missing = list(sizes)
        self._done = 0

    def index_at(self, offset: int) -> int:
        """Which buffer has this byte of the bulk stream."""
        return bisect.bisect_right(self._starts, offset) - 1

    def view(self, index: int) -> memoryview:
        """A buffer's bytes."""
        with self._lock:
            return self._buffers[index].cast("B")

    def start(self, index: int) -> int:
        """Where a buffer's bytes begin in the bulk stream."""
        return self._starts[index]

    def filled(self, index: int, size_bytes: int) -> None:
        """So much of a buffer was filled."""
        with self._lock:
            self._missing[index] -= size_bytes
            self._done += size_bytes
            if not self._missing[index] and self._complete is not None:
                self._complete(index)

    def show_progress(self) -> None:
        """Tells whoever wanted to know."""
        if self._progress is not None:
            with self._lock:
                self._progress(self._done, self.total)


class _Range:
    """Bytes start to end of the bulk stream, on their way into the buffers."""

    def __init__(self, fetch: StreamFetch, targets: _Targets, start: int, end: int) -> None:
        self._fetch = fetch
        self._next = start
        self._end = end
        self._targets = targets
        self._index = -1  # of the buffer that is being filled
        self._view = memoryview(b"")
        self._stream: Optional[ServerStream] = None
        self._closed = False

    @property
    def size(self) -> int:
        """What is missing still."""
        return self._end - self._next

    def read(self, stream: Optional[ServerStream] = None) -> None:
        """All of it; `stream` is one that brings it, whose header and manifest were taken."""
        retrying = self._fetch.retrying()
        while self.size or stream is not None:
            before = self._next
            try:
                self._stream = stream or self._fetch.open_range(self._next, self._end)
                if self._closed:
                    return
                if stream is None:
                    take_header(self._stream)
                self._read_stream(self._stream)
            except SconceError as error:
                if self._closed or not self.size:
                    return
                if self._next > before:
                    retrying.progress()
                retrying.wait(error)
            finally:
                if self._stream is not None:
                    self._stream.close()
            stream = None

    def close(self) -> None:
        """Ends what goes on, from another thread."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    def _read_stream(self, stream: ServerStream) -> None:
        for message in stream:
            self._take(message)
            if not self.size and self._end < self._fetch.header.bulk_bytes:
                return  # the first of several streams goes on to the end of all
        if self.size:
            raise _internal(f"the server's bulk stream ends at byte {self._next}, before {self._end}")

    def _take(self, message: bytes) -> None:
        offset, checksum, data = 0, b"", memoryview(b"")
        for number, value in _wire.fields(message):
            if number == _OFFSET and isinstance(value, int):
                offset = value
            elif number == _XXH3 and isinstance(value, memoryview):
                checksum = bytes(value)
            elif number == _DATA and isinstance(value, memoryview):
                data = value
        if not data:
            return
        if offset != self._next:
            raise _internal(f"the server sent byte {offset} where {self._next} was next")
        if xxhash.xxh3_128_digest(data) != checksum:
            # Damaged on the way, not at rest: the server checked it. The same bytes asked for again will do.
            raise make_error("UNAVAILABLE", "SERVER_UNREACHABLE", f"bytes {offset} to {offset + len(data)} of the bulk stream came in damaged")
        self._place(data[: self.size])

    def _place(self, data: memoryview) -> None:
        while data:
            index = self._targets.index_at(self._next)
            if index != self._index:
                self._index, self._view = index, self._targets.view(index)
            at = self._next - self._targets.start(index)
            count = min(len(data), len(self._view) - at)
            self._view[at : at + count] = data[:count]
            data = data[count:]
            self._next += count
            if at + count == len(self._view):
                self._index, self._view = -1, memoryview(b"")
            self._targets.filled(index, count)
        self._targets.show_progress()


def _read_all(ranges: Sequence[_Range], first: ServerStream) -> None:
    """The first range on this thread and each other on one of its own. Raises what went wrong first, when all have ended."""
    errors: List[BaseException] = []

    def work(each: _Range, stream: Optional[ServerStream] = None) -> None:
        try:
            each.read(stream)
        except BaseException as error:  # pylint: disable=broad-exception-caught
            errors.append(error)
            for other in ranges:
                other.close()

    threads = [threading.Thread(target=work, args=(each,), name="sconce-fetch", daemon=True) for each in ranges[1:]]
    for thread in threads:
        thread.start()
    work(ranges[0], first)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _internal(message: str) -> SconceError:
    return make_error("INTERNAL", "INTERNAL_ERROR", message)
