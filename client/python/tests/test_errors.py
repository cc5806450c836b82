"""Statuses of gRPC as exceptions."""

import pickle

import grpc
import pytest
import sconce
from sconce import _errors
from sconce._proto import rpc


class Status(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, code, message="", details=None):
        super().__init__()
        self._code, self._message, self._details = grpc.StatusCode[code], message, details

    def code(self):
        return self._code

    def details(self):
        return self._message

    def trailing_metadata(self):
        return (("grpc-status-details-bin", self._details),) if self._details is not None else ()


def packed(*details):
    status = rpc.Status(code=5)
    for detail in details:
        any_of_it = status.details.add()
        any_of_it.type_url = f"type.googleapis.com/{detail.DESCRIPTOR.full_name}"
        any_of_it.value = detail.SerializeToString()
    return status.SerializeToString()


def test_a_status_with_details_has_its_reason():
    info = rpc.ErrorInfo(reason="RUN_NOT_FOUND", domain="sconce.dev", metadata={"run": "r"})
    error = _errors.from_rpc_error(Status("NOT_FOUND", "there is no run r", packed(info)))
    assert isinstance(error, _errors.NotFoundError) and isinstance(error, KeyError)
    assert (error.code, error.reason, error.metadata, str(error)) == ("NOT_FOUND", "RUN_NOT_FOUND", {"run": "r"}, "there is no run r")
    assert error.details == ({"@type": "google.rpc.ErrorInfo", "reason": "RUN_NOT_FOUND", "domain": "sconce.dev", "metadata": {"run": "r"}},)
    assert error.retry_delay is None


def test_when_to_come_again():
    retry = rpc.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = _errors.from_rpc_error(Status("UNAVAILABLE", "draining", packed(rpc.ErrorInfo(reason="SERVER_DRAINING"), retry)))
    assert error.retry_delay == 1.5 and error.reason == "SERVER_DRAINING"


def test_a_status_of_another_makes_sense_too():
    error = _errors.from_rpc_error(Status("UNAVAILABLE", "connection refused"), "gpu-7:7433")
    assert isinstance(error, ConnectionError) and error.reason == "SERVER_UNREACHABLE"
    assert str(error) == "cannot reach the server at gpu-7:7433: connection refused"
    assert _errors.from_rpc_error(Status("UNKNOWN", "?")).reason == "INTERNAL_ERROR"
    garbage = _errors.from_rpc_error(Status("INTERNAL", "?", b"\xff\xff"))
    assert isinstance(garbage, _errors.InternalError) and garbage.details == ()


def test_a_detail_that_is_not_known_is_kept():
    status = rpc.Status()
    any_of_it = status.details.add()
    any_of_it.type_url, any_of_it.value = "type.googleapis.com/acme.Thing", b"\x01"
    assert _errors.from_rpc_error(Status("ABORTED", "", status.SerializeToString())).details == ({"@type": "acme.Thing", "value": "AQ=="},)


@pytest.mark.parametrize(
    "code, kind, also",
    [
        ("INVALID_ARGUMENT", "InvalidArgumentError", ValueError),
        ("OUT_OF_RANGE", "OutOfRangeError", ValueError),
        ("NOT_FOUND", "NotFoundError", KeyError),
        ("ALREADY_EXISTS", "AlreadyExistsError", Exception),
        ("FAILED_PRECONDITION", "PreconditionError", Exception),
        ("ABORTED", "ConflictError", Exception),
        ("PERMISSION_DENIED", "PermissionDeniedError", Exception),
        ("UNAUTHENTICATED", "UnauthenticatedError", Exception),
        ("RESOURCE_EXHAUSTED", "ResourceExhaustedError", Exception),
        ("DATA_LOSS", "DataLossError", Exception),
        ("UNAVAILABLE", "UnavailableError", ConnectionError),
        ("DEADLINE_EXCEEDED", "DeadlineError", TimeoutError),
        ("CANCELLED", "CancelledError", Exception),
        ("UNIMPLEMENTED", "UnimplementedError", NotImplementedError),
        ("INTERNAL", "InternalError", Exception),
        ("UNKNOWN", "InternalError", Exception),
    ],
)
def test_every_code_has_its_class(code, kind, also):
    error = _errors.make_error(code, "SOME_REASON", "a sentence with 'quotes'", {"a": "b"}, [{"@type": "x"}])
    assert type(error) is getattr(sconce, kind) and isinstance(error, also) and isinstance(error, sconce.SconceError)
    assert str(error) == "a sentence with 'quotes'" and error.code == code
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and vars(again) == vars(error) and str(again) == str(error)
