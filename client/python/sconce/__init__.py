"""Client of Sconce, a service that stores versioned PyTorch checkpoints.

    import sconce

    run = sconce.connect("localhost:7433").run("resnet50")
    for version in run.watch("best"):
        print(version.ref, version.metrics)
"""

from sconce._background import SaveFuture
from sconce._client import Client, connect
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
from sconce._info import CheckpointInfo, RunInfo, TreeEntry
from sconce._plan import IncompatibleKeys, LoadPlan, LoadStateDictError
from sconce._run import Run
from sconce._version import __version__

__all__ = [
    "AlreadyExistsError",
    "CancelledError",
    "CheckpointInfo",
    "Client",
    "ConflictError",
    "DataLossError",
    "DeadlineError",
    "IncompatibleKeys",
    "InternalError",
    "InvalidArgumentError",
    "LoadPlan",
    "LoadStateDictError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "PreconditionError",
    "ResourceExhaustedError",
    "Run",
    "RunInfo",
    "SaveFuture",
    "SconceError",
    "TreeEntry",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "__version__",
    "connect",
]
