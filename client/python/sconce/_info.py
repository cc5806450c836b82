"""What the server says about runs, versions and what is in them, as plain values."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Dict, Optional, Tuple

from sconce import _refs
from sconce._proto import enum_name


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """One version of a run.

    name: `projects/{project}/runs/{run}/checkpoints/{version}`, with the number.
    kind: "STATE", or "OPAQUE" for bytes that Sconce does not read. state: "COMMITTED" or "QUARANTINED".
    epoch, step: None when not known. metrics: by name; the loss is metrics["loss"].
    parent_version: the version this one was trained from; 0 when not said.
    size_bytes: of all storages as torch would load them. stored_bytes: what it added to the server's disk; deduplicated_bytes: what was there already.
    uploaded_bytes: what was sent to save it. None unless it comes from a save.
    aliases: those that point here. Not told by `watch` events.
    etag: changes with every update.
    """

    name: str
    version: int
    kind: str
    state: str
    epoch: Optional[int]
    step: Optional[int]
    metrics: Dict[str, float]
    labels: Dict[str, str]
    parent_version: int
    size_bytes: int
    stored_bytes: int
    deduplicated_bytes: int
    tensor_count: int
    manifest_bytes: int
    manifest_sha256: str
    create_time: Optional[datetime.datetime]
    expire_time: Optional[datetime.datetime]
    pinned: bool
    aliases: Tuple[str, ...]
    etag: str
    uploaded_bytes: Optional[int] = None

    @property
    def ref(self) -> str:
        """The short form of the name, e.g. "resnet50@12"."""
        return str(_refs.parse(self.name))

    @classmethod
    def from_message(cls, message: Any, uploaded_bytes: Optional[int] = None) -> CheckpointInfo:
        """Of a `sconce.v1.Checkpoint`."""
        return cls(
            name=message.name,
            version=message.version,
            kind=enum_name("sconce.v1.Checkpoint.Kind", message.kind),
            state=enum_name("sconce.v1.Checkpoint.State", message.state),
            epoch=message.epoch if message.HasField("epoch") else None,
            step=message.step if message.HasField("step") else None,
            metrics=dict(message.metrics),
            labels=dict(message.labels),
            parent_version=message.parent_version,
            size_bytes=message.logical_bytes,
            stored_bytes=message.stored_bytes,
            deduplicated_bytes=message.deduplicated_bytes,
            tensor_count=message.tensor_count,
            manifest_bytes=message.manifest_bytes,
            manifest_sha256=message.manifest_sha256,
            create_time=to_datetime(message, "create_time"),
            expire_time=to_datetime(message, "expire_time"),
            pinned=message.pinned,
            aliases=tuple(message.aliases),
            etag=message.etag,
            uploaded_bytes=uploaded_bytes,
        )


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """A run.

    name: `projects/{project}/runs/{run}`.
    best_metric, best_goal: what `best` means here, e.g. "loss" and "MINIMIZE".
    latest_version, best_version: 0 when there is none.
    """

    name: str
    uid: str
    labels: Dict[str, str]
    best_metric: str
    best_goal: str
    create_time: Optional[datetime.datetime]
    update_time: Optional[datetime.datetime]
    checkpoint_count: int
    latest_version: int
    best_version: int
    etag: str

    @classmethod
    def from_message(cls, message: Any) -> RunInfo:
        """Of a `sconce.v1.Run`."""
        goal = enum_name("sconce.v1.BestRule.Goal", message.best_rule.goal)
        return cls(
            name=message.name,
            uid=message.uid,
            labels=dict(message.labels),
            best_metric=message.best_rule.metric or "loss",
            best_goal="MINIMIZE" if goal == "GOAL_UNSPECIFIED" else goal,
            create_time=to_datetime(message, "create_time"),
            update_time=to_datetime(message, "update_time"),
            checkpoint_count=message.checkpoint_count,
            latest_version=message.latest_version,
            best_version=message.best_version,
            etag=message.etag,
        )


@dataclasses.dataclass(frozen=True)
class TreeEntry:
    """One node of a checkpoint's tree.

    path: a JSON Pointer, "" for the root. type: "tensor", "parameter", "dict", "list", "int" ...
    dtype, shape, stride, storage_offset, device, size_bytes, requires_grad, storage, shares_storage: of tensors. shares_storage says that an entry before had
    the same storage.
    value: of scalars, as Python would print it, cut at 120 bytes. child_count: of containers.
    """

    path: str
    type: str
    dtype: str
    shape: Tuple[int, ...]
    stride: Tuple[int, ...]
    storage_offset: int
    device: str
    size_bytes: int
    requires_grad: bool
    value: str
    storage: int
    shares_storage: bool
    child_count: int

    @classmethod
    def from_message(cls, message: Any) -> TreeEntry:
        """Of a `sconce.v1.TreeEntry`."""
        values: Dict[str, Any] = {field.name: getattr(message, field.name) for field in dataclasses.fields(cls)}
        values.update(shape=tuple(message.shape), stride=tuple(message.stride))
        return cls(**values)


def to_datetime(message: Any, field: str) -> Optional[datetime.datetime]:
    """A field that is a Timestamp, in UTC; None when it is not set."""
    if not message.HasField(field):
        return None
    moment: datetime.datetime = getattr(message, field).ToDatetime(tzinfo=datetime.timezone.utc)
    return moment


def from_expiry(expire: Any) -> datetime.datetime:
    """When something expires that is given as a moment, or as a timedelta from now. A moment without a zone is local time. TypeError for anything else.

    >>> from_expiry(datetime.timedelta(days=1)) > datetime.datetime.now(datetime.timezone.utc)
    True
    """
    if isinstance(expire, datetime.timedelta):
        return datetime.datetime.now(datetime.timezone.utc) + expire
    if isinstance(expire, datetime.datetime):
        return expire.astimezone(datetime.timezone.utc)
    raise TypeError(f"expire takes a datetime or a timedelta, not {type(expire).__name__}")
