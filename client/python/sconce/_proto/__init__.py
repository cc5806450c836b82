"""The protocol's messages, in a descriptor pool of this package's own.

Generated code would register `inference.*` and `google.rpc.*` in the process-wide pool, where tritonclient and googleapis-common-protos register files of
the same names: whichever is imported second then fails. Here nothing is registered anywhere. The descriptors are a file beside this one, made by
`client/python/tools/make_descriptors.sh`.

    >>> v1.GetRunRequest(name="projects/default/runs/r").name
    'projects/default/runs/r'
    >>> v1.nested("UploadChunksRequest.Start")(part=3).part
    3
    >>> method("sconce.v1.TransferService/BeginUpload").path
    '/sconce.v1.TransferService/BeginUpload'
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from typing import Any, Callable

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["Method", "Package", "enum_name", "enum_number", "inference", "method", "rpc", "v1"]


def _load_pool() -> Any:
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(importlib.resources.files(__name__).joinpath("descriptors.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:  # protoc writes each file after those it imports
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_pool = _load_pool()


def _class_of(descriptor: Any) -> Any:
    make = getattr(message_factory, "GetMessageClass", None)  # since protobuf 4.22
    return make(descriptor) if make is not None else _old_factory().GetPrototype(descriptor)


@functools.lru_cache(maxsize=None)
def _old_factory() -> Any:
    return message_factory.MessageFactory(_pool)


@functools.lru_cache(maxsize=None)
def _message(full_name: str) -> Any:
    return _class_of(_pool.FindMessageTypeByName(full_name))


class Package:
    """The message classes of one package of the protocol, as attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        try:
            return _message(f"{self._name}.{name}")
        except KeyError:
            raise AttributeError(f"{self._name} has no message {name}") from None

    def nested(self, name: str) -> Any:
        """The class of a message within another: "Outer.Inner"."""
        return getattr(self, name)


v1 = Package("sconce.v1")
rpc = Package("google.rpc")
inference = Package("inference")


def enum_number(enum: str, value: str) -> int:
    """The number of a value of an enum, both as the .proto files name them.

    >>> enum_number("sconce.v1.Checkpoint.State", "COMMITTED")
    1
    """
    return int(_pool.FindEnumTypeByName(enum).values_by_name[value].number)


def enum_name(enum: str, number: int) -> str:
    """The name of a number of an enum; the number as text when this package does not know it.

    >>> enum_name("sconce.v1.Checkpoint.State", 2), enum_name("sconce.v1.Checkpoint.State", 77)
    ('QUARANTINED', '77')
    """
    value = _pool.FindEnumTypeByName(enum).values_by_number.get(number)
    return str(number) if value is None else str(value.name)


@dataclasses.dataclass(frozen=True)
class Method:
    """One call of the protocol."""

    path: str  # as HTTP/2 has it, "/sconce.v1.TransferService/BeginUpload"
    encode: Callable[[Any], bytes]  # of its requests
    decode: Callable[[bytes], Any]  # of its answers


@functools.lru_cache(maxsize=None)
def method(name: str) -> Method:
    """A method by its full name, "package.Service/Method". KeyError when there is none."""
    service, _, short = name.partition("/")
    found = _pool.FindServiceByName(service).methods_by_name[short]
    request, answer = _class_of(found.input_type), _class_of(found.output_type)
    return Method(f"/{name}", request.SerializeToString, answer.FromString)
