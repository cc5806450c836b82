"""Client of Sconce, a service that stores versioned PyTorch checkpoints."""

from sconce._errors import (
    AlreadyExistsError,
    CancelledError,
    ConflictError,
    DataLossError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    PreconditionError,
    ResourceExhaustedError,
    SconceError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from sconce._version import __version__

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
    "__version__",
]
