"""What can go wrong, as exceptions.

Each is a canonical gRPC code, one reason (docs/errors.md lists them, with what to do), the variable parts of the sentence as metadata, and the
sentence itself, which is what `str()` gives.

    >>> error = make_error("NOT_FOUND", "RUN_NOT_FOUND", "there is no run r", {"run": "r"})
    >>> isinstance(error, NotFoundError), isinstance(error, KeyError), str(error), error.reason
    (True, True, 'there is no run r', 'RUN_NOT_FOUND')
"""

from __future__ import annotations

import base64
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Type

import grpc

from sconce._proto import rpc

__all__ = [
    "AlreadyExistsError",
    "CancelledError",
    "ConflictError",
    "DataLossError",
    "DeadlineError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "PreconditionError",
    "ResourceExhaustedError",
    "SconceError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "from_rpc_error",
    "make_error",
]


class SconceError(Exception):
    """Base of all errors of this package that a server, or the way to it, caused.

    code: the gRPC code's name, e.g. "NOT_FOUND".
    reason: what a program should look at, e.g. "RUN_NOT_FOUND".
    metadata: the variable parts of the message.
    message: a sentence for a person.
    details: all google.rpc details of the status, each as JSON would have it, with its "@type".
    """

    def __init__(
        self, code: str, reason: str, metadata: Optional[Mapping[str, str]] = None, message: str = "", details: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata: Dict[str, str] = dict(metadata or {})
        self.message = message
        self.details: Tuple[Mapping[str, Any], ...] = tuple(details)

    def __str__(self) -> str:
        return self.message or self.reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.code, self.reason, self.metadata, self.message, self.details)

    @property
    def retry_delay(self) -> Optional[float]:
        """Seconds after which the server asks to be called again; None when it did not say."""
        for detail in self.details:
            if detail.get("@type") == "google.rpc.RetryInfo":
                return float(str(detail.get("retryDelay", "0s")).rstrip("s"))
        return None


class NotFoundError(SconceError, KeyError):
    """A run, version, alias, path or other thing that is not there."""


class AlreadyExistsError(SconceError):
    """What was to be made is there, and differs."""


class InvalidArgumentError(SconceError, ValueError):
    """A request that no state of the server would make right."""


class OutOfRangeError(SconceError, ValueError):
    """A place beyond an end: of a stream, or of the changes that are kept."""


class PreconditionError(SconceError):
    """Something else must be done or changed before."""


class ConflictError(SconceError):
    """Somebody else was faster, e.g. ETAG_MISMATCH or PLAN_CHANGED: look again, then try again."""


class PermissionDeniedError(SconceError):
    """The caller is known, and may not do this."""


class UnauthenticatedError(SconceError):
    """The caller's token is missing or not valid."""


class ResourceExhaustedError(SconceError):
    """A disk, a quota or a limit is full."""


class DataLossError(SconceError):
    """Stored bytes are damaged."""


class UnavailableError(SconceError, ConnectionError):
    """The server cannot be reached or cannot answer now."""


class DeadlineError(SconceError, TimeoutError):
    """No answer, or no progress, in the time given."""


class CancelledError(SconceError):
    """The call was cancelled."""


class UnimplementedError(SconceError, NotImplementedError):
    """The server does not have this call: it is older than this package, or is no Sconce."""


class InternalError(SconceError):
    """An error of the server or of this package that should be reported."""


_CLASSES: Dict[str, Type[SconceError]] = {
    "CANCELLED": CancelledError,
    "INVALID_ARGUMENT": InvalidArgumentError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "FAILED_PRECONDITION": PreconditionError,
    "ABORTED": ConflictError,
    "OUT_OF_RANGE": OutOfRangeError,
    "UNIMPLEMENTED": UnimplementedError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": DataLossError,
    "UNAUTHENTICATED": UnauthenticatedError,
}

# The reason of a status that says none: it is gRPC's own, or a proxy's.
_FOREIGN_REASONS = {
    "CANCELLED": "CALL_CANCELLED",
    "DEADLINE_EXCEEDED": "CALL_DEADLINE_EXCEEDED",
    "INVALID_ARGUMENT": "ARGUMENT_INVALID",
    "RESOURCE_EXHAUSTED": "MESSAGE_TOO_LARGE",
    "UNIMPLEMENTED": "NOT_IMPLEMENTED",
    "UNAVAILABLE": "SERVER_UNREACHABLE",
}


def make_error(
    code: str, reason: str, message: str, metadata: Optional[Mapping[str, str]] = None, details: Sequence[Mapping[str, Any]] = ()
) -> SconceError:
    """An error of the class that belongs to the code."""
    return _CLASSES.get(code, InternalError)(code, reason, metadata, message, details)


def from_rpc_error(error: grpc.RpcError, target: str = "") -> SconceError:
    """What gRPC raised, as one of this package's errors. `target` is named where the server was not reached."""
    code = error.code().name
    message = error.details() or ""
    trailers = dict(error.trailing_metadata() or ())
    details = _decode_details(trailers.get("grpc-status-details-bin"))
    for detail in details:
        if detail["@type"] == "google.rpc.ErrorInfo" and detail.get("reason"):
            return make_error(code, detail["reason"], message, detail.get("metadata"), details)
    if (code, True) in (("UNKNOWN", "Stream removed" in message), ("INTERNAL", "RST_STREAM" in message)):
        code = "UNAVAILABLE"  # a connection that broke, in the words of some releases of gRPC and of proxies
    if code == "UNAVAILABLE" and target:
        message = f"cannot reach the server at {target}: {message}"
    return make_error(code, _FOREIGN_REASONS.get(code, "INTERNAL_ERROR"), message, {}, details)


def _decode_details(trailer: Optional[bytes]) -> Tuple[Dict[str, Any], ...]:
    if not trailer:
        return ()
    from google.protobuf import json_format, message  # pylint: disable=import-outside-toplevel

    decoded = []
    try:
        for packed in rpc.Status.FromString(trailer).details:
            name = packed.type_url.rpartition("/")[2]
            known = getattr(rpc, name[len("google.rpc.") :], None) if name.startswith("google.rpc.") else None
            if known is None:
                decoded.append({"@type": name, "value": base64.b64encode(packed.value).decode("ascii")})
            else:
                decoded.append({"@type": name, **json_format.MessageToDict(known.FromString(packed.value))})
    except message.DecodeError:
        pass  # no server of ours wrote that; what was read so far is kept
    return tuple(decoded)
