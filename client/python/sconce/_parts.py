"""One version from several parts: of one process that brings them one after the other, or of the ranks of a job.

A part is a dict of what was put; the server unites the parts' dicts. The upload is opened first, so that each part goes as soon as it is there, and committed
when all are. Whoever fails aborts it: the others are told when they next ask for it.
"""

from __future__ import annotations

import random
import time
import warnings
from typing import Any, Dict, List, Optional

from sconce import _progress, _refs, _upload
from sconce._capture import capture
from sconce._connection import Connection
from sconce._errors import SconceError, make_error
from sconce._info import CheckpointInfo
from sconce._saving import About, finish

_FIRST_PAUSE = 0.05  # seconds until a rank asks again whether the others are there, doubled each time
_LONGEST_PAUSE = 1.0


class VersionWriter:
    """A version that is being put together; made by Run.begin. A context manager: the version is there when its block ends, and not if that raises.

    To be used by one thread.
    """

    def __init__(
        self, connection: Connection, ref: _refs.Ref, about: About, parts: int, part: Optional[int], upload_id: str, timeout: float, progress: _progress.Wanted
    ) -> None:
        if parts < 1:
            raise _refs.invalid("ARGUMENT_INVALID", f"parts={parts}: a version has at least one part", {"parts": str(parts)})
        if part is not None and not 0 <= part < parts:
            raise _refs.invalid("ARGUMENT_INVALID", f"part={part} is not one of 0 to {parts - 1}", {"part": str(part)})
        if part is not None and parts > 1 and not upload_id:
            sentence = "ranks find each other by upload_id: give one that is the same in all of them, and new for each version"
            raise _refs.invalid("ARGUMENT_INVALID", sentence, {"part": str(part)})
        self._connection = connection
        self._ref = ref
        self._about = about
        self._parts = parts
        self._part = 0 if part is None and parts == 1 else part  # None: each put is one
        self._upload_id = upload_id
        self._timeout = timeout
        self._progress = progress
        self._upload: Any = None
        self._names: List[str] = []
        self._collected: Dict[str, Any] = {}
        self._sent_bytes = 0
        self._info: Optional[CheckpointInfo] = None
        self._was_aborted = ""

    @property
    def info(self) -> CheckpointInfo:
        """The version. ValueError before the block has ended."""
        if self._info is None:
            raise ValueError("there is no version before the block has ended")
        return self._info

    def put(self, name: str, obj: Any) -> None:
        """Makes `obj` the value of this key of the version. Several parts of one process: it is a part, and sent before this returns. Otherwise it is sent when the
        block ends, and must not change until then.

        ValueError for a key that was put before, and for more of them than parts; errors as Run.save.
        """
        if self._upload is None or self._info is not None:
            raise ValueError("put is for the block of a with statement")
        if name in self._names:
            raise _refs.invalid("ARGUMENT_INVALID", f'"{name}" was put before', {"name": name})
        if self._part is None and len(self._names) == self._parts:
            raise _refs.invalid("ARGUMENT_INVALID", f'"{name}" is one part more than the {self._parts} of this version', {"name": name})
        self._names.append(name)
        if self._part is None:
            self._send(len(self._names) - 1, {name: obj})
        else:
            self._collected[name] = obj

    def __enter__(self) -> VersionWriter:
        self._connection.saves.wait()
        header = self._about.header(self._ref.run_name)
        if self._upload_id and self._parts > 1 and _upload.was_aborted(self._connection, self._ref.run_name, self._upload_id):
            # Rank and upload of a job that was started again look the same as a rank that is late, so this is no error yet.
            self._was_aborted = f"upload {self._upload_id} of {self._ref} was aborted before this rank came, by one that failed; this one began it anew"
            warnings.warn(f"{self._was_aborted}, which is as it should be if the job was started again", RuntimeWarning, stacklevel=2)
        self._upload = _upload.begin(self._connection, header, upload_id=self._upload_id, expected_parts=self._parts)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None:
            self._abort()
            return
        try:
            if self._part is not None:
                self._send(self._part, self._collected)
            elif len(self._names) < self._parts:
                sentence = f"{len(self._names)} of {self._parts} parts were put, and so there is no version"
                raise _refs.invalid("UPLOAD_INCOMPLETE", sentence, {"parts": str(self._parts)})
        except BaseException:
            self._abort()
            raise
        checkpoint = self._commit()
        outcome = _upload.UploadOutcome(checkpoint, 0, self._sent_bytes, 0)
        # One rank is enough to move aliases: another might move them back when somebody else has moved them on.
        self._info = finish(self._connection, self._ref, outcome, self._about.aliases if not self._part else ())

    def _send(self, part: int, obj: Any) -> None:
        captured = capture(obj)
        if self._upload.checkpoint:
            return  # it is a version since an earlier try
        sizes = captured.storages.sizes
        name = self._upload.name
        with _progress.reporting(self._progress, str(self._ref)) as report:
            try:
                outcome = _upload.upload_part(
                    self._connection, name, part, captured.manifest_bytes, captured.storages, sizes=sizes, progress=report
                )
            except SconceError as error:
                raise self._explained(error) from None
        self._sent_bytes += outcome.sent_bytes

    def _commit(self) -> Any:
        """The version, when the other ranks have done their parts."""
        give_up = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return _upload.commit(self._connection, self._upload.name)
            except SconceError as error:
                if error.reason != "UPLOAD_INCOMPLETE":
                    raise self._explained(error) from None
                if time.monotonic() >= give_up:
                    message = f"the other ranks have not done their parts within {self._timeout:g} s: {error.message}"
                    if self._was_aborted:
                        message += f" ({self._was_aborted})"
                    raise make_error("DEADLINE_EXCEEDED", "UPLOAD_INCOMPLETE", message, error.metadata) from None
            time.sleep(random.SystemRandom().uniform(pause / 2, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _explained(self, error: SconceError) -> SconceError:
        if error.reason != "UPLOAD_NOT_FOUND" or self._parts == 1:
            return error
        upload = self._upload.name.rpartition("/")[2]
        message = f"upload {upload} of {self._ref} is gone, and nothing was saved: another rank failed and aborted it, or it expired ({error.message})"
        return make_error(error.code, error.reason, message, error.metadata, error.details)

    def _abort(self) -> None:
        try:
            _upload.abort(self._connection, self._upload.name)
        except SconceError:
            pass  # what went wrong before matters more; the server drops it in time
