"""Saves an object as a new version: capture it, upload what the server lacks, commit, set aliases. Now, or of a copy in the background."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Mapping, Optional, Sequence, Union

from sconce import _progress, _refs, _upload
from sconce._background import SaveFuture
from sconce._capture import capture
from sconce._connection import Connection
from sconce._info import CheckpointInfo, from_expiry
from sconce._proto import v1

_SERVICE = "sconce.v1.CheckpointService"


@dataclasses.dataclass(frozen=True)
class About:
    """What is said about a version that is saved; see Run.save."""

    step: Optional[int] = None
    epoch: Optional[int] = None
    metrics: Optional[Mapping[str, Any]] = None
    labels: Optional[Mapping[str, str]] = None
    aliases: Sequence[str] = ()
    pinned: bool = False
    expire: Union[None, datetime.datetime, datetime.timedelta] = None

    def header(self, run_name: str) -> Any:
        """As a `sconce.v1.PushHeader`. Metrics may be whatever float() takes, a tensor of one element too."""
        for alias in self.aliases:
            _refs.check_alias(alias)
        header = v1.PushHeader(parent=run_name)
        header.checkpoint.pinned = self.pinned
        if self.step is not None:
            header.checkpoint.step = int(self.step)
        if self.epoch is not None:
            header.checkpoint.epoch = int(self.epoch)
        header.checkpoint.metrics.update({name: float(value) for name, value in (self.metrics or {}).items()})
        header.checkpoint.labels.update(self.labels or {})
        if self.expire is not None:
            header.checkpoint.expire_time.FromDatetime(from_expiry(self.expire))
        return header


def save(connection: Connection, ref: _refs.Ref, obj: Any, about: About, progress: _progress.Wanted) -> CheckpointInfo:
    """See Run.save."""
    connection.saves.wait()
    header = about.header(ref.run_name)
    captured = capture(obj)
    sizes = captured.storages.sizes
    with _progress.reporting(progress, str(ref)) as report:
        outcome = _upload.upload(connection, header, captured.manifest_bytes, captured.storages, sizes=sizes, progress=report)
    return finish(connection, ref, outcome, about.aliases)


def save_async(connection: Connection, ref: _refs.Ref, obj: Any, about: About, progress: _progress.Wanted) -> SaveFuture:
    """See Run.save_async."""
    from sconce._snapshot import take_snapshot  # pylint: disable=import-outside-toplevel

    header = about.header(ref.run_name)
    with connection.saves.turn():
        snapshot = take_snapshot(obj)

        def work(future: SaveFuture) -> CheckpointInfo:
            with snapshot, _progress.reporting(progress, str(ref)) as report:
                sizes = snapshot.sizes

                def both(done: int, total: int) -> None:
                    future.report(done, total)
                    if report is not None:
                        report(done, total)

                both(0, sum(sizes))
                outcome = _upload.upload(connection, header, snapshot.manifest_bytes, snapshot.storages, sizes=sizes, progress=both)
            return finish(connection, ref, outcome, about.aliases)

        return connection.saves.start(f"{ref}{'' if about.step is None else f' (step {about.step})'}", work)


def finish(connection: Connection, ref: _refs.Ref, outcome: _upload.UploadOutcome, aliases: Sequence[str]) -> CheckpointInfo:
    """Sets aliases on the version that came of an upload, and says what there is now."""
    checkpoint = outcome.checkpoint
    for alias in aliases:
        request = v1.SetAliasRequest(name=f"{ref.run_name}/aliases/{alias}", selector=str(checkpoint.version))
        connection.call(f"{_SERVICE}/SetAlias", request)
    if aliases:
        checkpoint = connection.call(f"{_SERVICE}/GetCheckpoint", v1.GetCheckpointRequest(name=checkpoint.name))
    return CheckpointInfo.from_message(checkpoint, outcome.sent_bytes)
