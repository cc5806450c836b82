"""Uploads that resume and send no byte that is stored: BeginUpload, UploadChunks, CommitUpload (transfer_service.proto).

One stream of UploadChunks:

1. Start, the manifest; wait for the first answer, which says what is settled already.
2. Take what is not, front to back, and propose it: XXH3-128 only. Chunks wait in a window for their verdict.
3. HAVE lets a chunk go. PROVE costs its SHA-256, and it waits on. SEND puts its bytes on the wire.
4. Whenever there is nothing to do but wait, what is collected for a fuller message goes out as it is.

The storages stay where they are: a chunk in the window is a view, and its bytes are copied once, into the message that carries them. They must not change
until the upload is over. A stream that breaks is followed by another, which goes on with what is not durable; when the server was killed and is back,
nothing else happens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

import xxhash

from sconce import _wire
from sconce._chunks import Chunk, ChunkPlan
from sconce._connection import Connection
from sconce._dialog import Dialog
from sconce._errors import SconceError, make_error
from sconce._proto import enum_number, v1
from sconce._retry import Retrying

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_SERVICE = "sconce.v1.TransferService"
_DATA_BYTES = 2 << 20  # of one message
_MANIFEST_PIECE_BYTES = 1 << 20
# Chunks that wait for a verdict. Enough to keep a fast link with some round trip busy.
_WINDOW_BYTES = 64 << 20
_WINDOW_CHUNKS = 16_384
# A message of proposals goes when it has so many, or stands for so many bytes.
_PROPOSALS_PER_MESSAGE = 1_024
_BYTES_PER_PROPOSALS = 16 << 20

_ACTION = "sconce.v1.UploadChunksResponse.Verdict.Action"
_SEND, _PROVE, _HAVE = (enum_number(_ACTION, name) for name in ("SEND", "PROVE", "HAVE"))


@dataclasses.dataclass(frozen=True)
class UploadOutcome:
    """What came of an upload.

    checkpoint: the version, a `sconce.v1.Checkpoint`.
    bulk_bytes: of the part's bulk storages.
    sent_bytes: what went over the wire of them; what had to go again after a break counts again.
    reused_bytes: what did not: it was stored, or durable from an earlier try.
    """

    checkpoint: Any
    bulk_bytes: int
    sent_bytes: int
    reused_bytes: int


def upload(
    connection: Connection,
    header: Any,
    manifest_bytes: bytes,
    storages: Sequence[memoryview],
    *,
    sizes: Optional[Sequence[int]] = None,
    progress: Optional[Progress] = None,
    stall_timeout: Optional[float] = None,
    part: int = 0,
    upload_id: str = "",
    expected_parts: int = 1,
) -> UploadOutcome:
    """Stores a version, or this rank's part of it, and commits it.

    header: a `sconce.v1.PushHeader`; ranks of one upload give the same.
    manifest_bytes, storages: the encoded manifest, and the bytes of its bulk storages in its order. An item of `storages` is asked for when its turn comes,
    and kept while it waits, so that one that makes host copies of a GPU's memory holds few of them.
    sizes: of the storages, so that they are not asked for it.
    progress: called on this thread with what is with the server of the part's bytes, and how many there are.
    upload_id: what ranks join by; a random one when empty. With the same id an interrupted upload goes on in another process.

    With several parts, the rank that is last commits: the others get UPLOAD_INCOMPLETE (InvalidArgumentError) when they did their part, so use begin(),
    upload_part() and commit(), with a barrier between the last two. Errors: those of the calls; UnavailableError when the server stays away.
    """
    opened = begin(connection, header, upload_id=upload_id, expected_parts=expected_parts)
    sending = PartUpload(opened.name, part, manifest_bytes, storages, sizes, progress)
    if not opened.checkpoint:
        _send_part(connection, sending, opened, stall_timeout)
    return sending.outcome(commit(connection, opened.name))


def begin(connection: Connection, header: Any, *, upload_id: str = "", expected_parts: int = 1) -> Any:
    """Opens an upload, or joins it. Returns the `sconce.v1.Upload`. Safe to repeat."""
    request = v1.BeginUploadRequest(header=header, upload_id=upload_id or str(uuid.uuid4()), expected_parts=expected_parts)
    if not request.header.request_id:
        # All ranks must say the same, and so must the process that goes on with an upload.
        request.header.request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{header.parent}/uploads/{upload_id}") if upload_id else uuid.uuid4())
    return connection.call(f"{_SERVICE}/BeginUpload", request, retry=connection.stream_retry())


def was_aborted(connection: Connection, parent: str, upload_id: str) -> bool:
    """Whether the server remembers that an upload of that id was aborted, or expired, and is not open again."""
    try:
        connection.call(f"{_SERVICE}/GetUpload", v1.GetUploadRequest(name=f"{parent}/uploads/{upload_id}"))
    except SconceError as error:
        if error.reason not in ("UPLOAD_NOT_FOUND", "RUN_NOT_FOUND"):
            raise
        return "was aborted" in error.message  # the reason is the same for one that never was
    return False


def upload_part(
    connection: Connection,
    name: str,
    part: int,
    manifest_bytes: bytes,
    storages: Sequence[memoryview],
    *,
    sizes: Optional[Sequence[int]] = None,
    progress: Optional[Progress] = None,
    stall_timeout: Optional[float] = None,
) -> UploadOutcome:
    """Returns when all of a part of the upload of that full name is durable; the outcome has no checkpoint then."""
    sending = PartUpload(name, part, manifest_bytes, storages, sizes, progress)
    _send_part(connection, sending, None, stall_timeout)
    return sending.outcome(None)


def commit(connection: Connection, name: str) -> Any:
    """Makes the upload a version. Returns the `sconce.v1.Checkpoint`. Safe to repeat. InvalidArgumentError: UPLOAD_INCOMPLETE."""
    return connection.call(f"{_SERVICE}/CommitUpload", v1.CommitUploadRequest(name=name), retry=connection.stream_retry())


def abort(connection: Connection, name: str) -> None:
    """Drops an upload and what it stored. Safe to repeat."""
    connection.call(f"{_SERVICE}/AbortUpload", v1.AbortUploadRequest(name=name))


def _send_part(connection: Connection, sending: PartUpload, known: Optional[Any], stall_timeout: Optional[float]) -> None:
    """Streams until all of it is durable. `known`: what the server said of the upload just now."""
    retrying = Retrying(connection.stream_retry())
    while True:
        settled_before = sending.settled_chunks
        try:
            if known is None:
                known = connection.call(f"{_SERVICE}/GetUpload", v1.GetUploadRequest(name=sending.name))
            if known.checkpoint:
                return  # another rank, or an earlier try of ours, made it a version
            with connection.dialog(f"{_SERVICE}/UploadChunks", stall_timeout=stall_timeout) as dialog:
                sending.run(dialog, send_manifest=not sending.is_known(known))
            return
        except SconceError as error:
            known = None
            if sending.settled_chunks > settled_before:
                retrying.progress()
            retrying.wait(error)


class PartUpload:
    """One part on its way to the server, over as many streams as it takes. Not thread-safe; borrows the storages."""

    def __init__(
        self,
        name: str,
        part: int,
        manifest_bytes: bytes,
        storages: Sequence[memoryview],
        sizes: Optional[Sequence[int]] = None,
        progress: Optional[Progress] = None,
    ) -> None:
        self.name = name
        self.part = part
        self.manifest_bytes = manifest_bytes
        self.storages = storages
        self.plan = ChunkPlan(sizes if sizes is not None else [storage.nbytes for storage in storages])
        self.sent_chunks: Set[int] = set()
        self.sent_bytes = 0
        self._progress = progress
        self._manifest_sha256 = hashlib.sha256(manifest_bytes).hexdigest()

    @property
    def settled_chunks(self) -> int:
        """Chunks known to be with the server: more of them is progress."""
        return self.plan.settled_chunks

    def is_known(self, known: Any) -> bool:
        """Whether the upload, as the server tells it, has this part's manifest."""
        return any(at.part == self.part and at.manifest_complete and at.manifest_sha256 == self._manifest_sha256 for at in known.parts)

    def run(self, dialog: Dialog, send_manifest: bool) -> None:
        """One stream, from its start to its end. Returns when all chunks are with the server, durably; otherwise SconceError."""
        conversation = _Conversation(self, dialog)
        if conversation.hold(send_manifest):
            dialog.half_close()
        while True:
            answer = dialog.receive(wait=True)
            if answer is None:
                break
            self.plan.settle_ranges(answer.durable_chunks)
            for verdict in answer.verdicts:  # that came when the call was over already
                if verdict.action == _HAVE and 0 <= verdict.chunk < self.plan.chunk_count:
                    self.plan.settle(verdict.chunk)
        dialog.finish()
        if self.plan.settled_chunks != self.plan.chunk_count:
            durable = f"{self.plan.settled_chunks} of {self.plan.chunk_count}"
            raise make_error("INTERNAL", "INTERNAL_ERROR", f"the server ended the stream with {durable} chunks durable")

    def show_progress(self, done: int) -> None:
        """Tells whoever wanted to know."""
        if self._progress is not None:
            self._progress(done, self.plan.bulk_bytes)

    def outcome(self, checkpoint: Any) -> UploadOutcome:
        """What moved so far."""
        return UploadOutcome(checkpoint, self.plan.bulk_bytes, self.sent_bytes, self.plan.bytes_but(self.sent_chunks))


class _Over(Exception):
    """The call is over: the dialog knows why."""


class _Conversation:
    """One stream's worth."""

    def __init__(self, part: PartUpload, dialog: Dialog) -> None:
        self._part = part
        self._plan = part.plan
        self._dialog = dialog
        self._window: Dict[int, memoryview] = {}
        self._window_bytes = 0
        self._questions = v1.UploadChunksRequest()  # proposals and proofs that wait to be sent
        self._proposed_bytes = 0  # that its proposals stand for
        self._data = _DataMessage()
        self._done_bytes = 0

    def hold(self, send_manifest: bool) -> bool:
        """Everything up to the half-close. False when the call is over before."""
        try:
            self._open(send_manifest)
            self._take_first_answer()
            for chunk in self._plan.unsettled():
                self._propose(chunk)
            while self._window:
                self._handle_answer(wait=True)
            self._flush()
            return True
        except _Over:
            return False

    def _open(self, send_manifest: bool) -> None:
        manifest = memoryview(self._part.manifest_bytes) if send_manifest else memoryview(b"")
        first = v1.UploadChunksRequest()
        first.start.upload, first.start.part, first.start.manifest_bytes = self._part.name, self._part.part, len(manifest)
        self._send(first.SerializeToString())
        for start in range(0, len(manifest), _MANIFEST_PIECE_BYTES):
            self._send(_wire.encode_manifest(manifest[start : start + _MANIFEST_PIECE_BYTES]))

    def _take_first_answer(self) -> None:
        first = self._dialog.receive(wait=True)
        if first is None:
            raise _Over
        if first.chunk_count != self._plan.chunk_count:
            sentence = f"the server counts {first.chunk_count} chunks in this part, and here are {self._plan.chunk_count}"
            raise make_error("INTERNAL", "INTERNAL_ERROR", sentence)
        self._plan.settle_ranges(first.durable_chunks)
        self._done_bytes = self._plan.settled_bytes
        self._part.show_progress(self._done_bytes)

    def _view(self, chunk: Chunk) -> memoryview:
        view = self._part.storages[chunk.storage].cast("B")[chunk.start : chunk.start + chunk.size_bytes]
        if len(view) != chunk.size_bytes:
            raise make_error("INTERNAL", "INTERNAL_ERROR", f"storage {chunk.storage} ends before byte {chunk.start + chunk.size_bytes}")
        return view

    def _propose(self, chunk: Chunk) -> None:
        while self._window and (len(self._window) >= _WINDOW_CHUNKS or self._window_bytes + chunk.size_bytes > _WINDOW_BYTES):
            self._handle_answer(wait=True)
        view = self._view(chunk)
        fingerprint = xxhash.xxh3_128_digest(view)
        self._questions.proposals.add(chunk=chunk.number, size_bytes=chunk.size_bytes, xxh3=fingerprint)
        self._proposed_bytes += chunk.size_bytes
        self._window_bytes += chunk.size_bytes
        self._window[chunk.number] = view
        if len(self._questions.proposals) >= _PROPOSALS_PER_MESSAGE or self._proposed_bytes >= _BYTES_PER_PROPOSALS:
            self._flush_questions()
        self._handle_answer(wait=False)

    def _handle_answer(self, wait: bool) -> None:
        """Deals with one message of the server; without one there is nothing to do unless it is to wait."""
        answer = self._dialog.receive(wait=False)
        if answer is None and wait:
            self._flush()
            answer = self._dialog.receive(wait=True)
            if answer is None:
                raise _Over
        if answer is None:
            return
        self._plan.settle_ranges(answer.durable_chunks)
        for verdict in answer.verdicts:
            self._obey(verdict.chunk, verdict.action)
        if self._questions.proofs:
            self._flush_questions()

    def _obey(self, number: int, action: int) -> None:
        view = self._window.get(number)
        if view is None:
            raise make_error("INTERNAL", "INTERNAL_ERROR", f"the server gave a verdict on chunk {number}, which it was not asked about")
        if action == _PROVE:
            self._questions.proofs.add(chunk=number, sha256=hashlib.sha256(view).digest())
            return
        if action == _SEND:
            self._part.sent_chunks.add(number)
            for message in self._data.add(number, view):
                self._send_data(message)
        elif action == _HAVE:
            self._plan.settle(number)
        else:
            raise make_error("INTERNAL", "INTERNAL_ERROR", "the server gave a verdict that this client does not know; use a newer one")
        del self._window[number]
        self._window_bytes -= len(view)
        self._done_bytes += len(view)
        self._part.show_progress(self._done_bytes)

    def _send(self, message: bytes) -> None:
        if not self._dialog.send(message):
            raise _Over

    def _send_data(self, message: DataPiece) -> None:
        self._send(message.encode())
        self._part.sent_bytes += message.size_bytes

    def _flush_questions(self) -> None:
        if self._questions.proposals or self._questions.proofs:
            self._send(self._questions.SerializeToString())
            self._questions = v1.UploadChunksRequest()
            self._proposed_bytes = 0

    def _flush(self) -> None:
        self._flush_questions()
        for message in self._data.take():
            self._send_data(message)


@dataclasses.dataclass(frozen=True)
class DataPiece:
    """The data of one message, and where it begins."""

    chunk: int
    offset: int
    pieces: List[memoryview]
    size_bytes: int

    def encode(self) -> bytes:
        """The message."""
        return _wire.encode_chunk_data(self.chunk, self.offset, self.pieces)


class _DataMessage:
    """Collects chunks that follow each other until a message is full."""

    def __init__(self) -> None:
        self._chunk = self._offset = 0  # where it begins
        self._pieces: List[memoryview] = []
        self._size_bytes = 0
        self._next_chunk = -1  # the chunk that may follow in the same message

    def add(self, number: int, view: memoryview) -> List[DataPiece]:
        """Puts a chunk behind what waits. Returns what is to be sent now."""
        full = self.take() if number != self._next_chunk else []
        offset = 0
        while offset < len(view):
            if not self._pieces:
                self._chunk, self._offset = number, offset
            piece = view[offset : offset + _DATA_BYTES - self._size_bytes]
            self._pieces.append(piece)
            self._size_bytes += len(piece)
            offset += len(piece)
            if self._size_bytes == _DATA_BYTES:
                full += self.take()
        self._next_chunk = number + 1
        return full

    def take(self) -> List[DataPiece]:
        """What waits, as a message; none when nothing does."""
        if not self._pieces:
            return []
        message = DataPiece(self._chunk, self._offset, self._pieces, self._size_bytes)
        self._pieces, self._size_bytes = [], 0
        return [message]
