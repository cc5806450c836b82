"""What a connection needs to know, from arguments and from the environment."""

from __future__ import annotations

import dataclasses
import os
from typing import Optional, Tuple, Union

from sconce import _refs
from sconce._retry import RetryPolicy

PemSource = Union[str, "os.PathLike[str]", bytes]  # a file, or its bytes


@dataclasses.dataclass(frozen=True)
class Options:
    """All there is to set. Immutable and picklable; what holds a secret is not printed."""

    target: str = "localhost:7433"
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    tls: bool = False
    root_certificates: Optional[bytes] = dataclasses.field(default=None, repr=False)
    certificate_chain: Optional[bytes] = dataclasses.field(default=None, repr=False)
    private_key: Optional[bytes] = dataclasses.field(default=None, repr=False)
    timeout: float = 60.0  # of a unary call
    stall_timeout: float = 60.0  # of a stream: without any progress
    retry: RetryPolicy = RetryPolicy()
    stream_attempts: int = 12  # counted from the start after progress


def resolve(
    target: Optional[str] = None,
    *,
    token: Optional[str] = None,
    tls: Optional[bool] = None,
    root_certificates: Optional[PemSource] = None,
    client_cert: Optional[Tuple[PemSource, PemSource]] = None,
    timeout: float = 60.0,
    stall_timeout: float = 60.0,
    retries: int = 5,
) -> Options:
    """Arguments win over SCONCE_TARGET, SCONCE_TOKEN and SCONCE_CACERT. Certificates of any kind mean TLS.

    OSError for a certificate that cannot be read; ValueError for settings that contradict each other.

    >>> resolve("gpu-7").target, resolve("gpu-7").tls, resolve("gpu-7", root_certificates=b"PEM").tls
    ('gpu-7:7433', False, True)
    """
    roots = root_certificates if root_certificates is not None else os.environ.get("SCONCE_CACERT") or None
    if tls is False and (root_certificates is not None or client_cert is not None):
        raise ValueError("tls=False, and certificates were given")
    chain, key = client_cert if client_cert is not None else (None, None)
    use_tls = tls if tls is not None else (roots is not None or client_cert is not None)
    return Options(
        target=_refs.complete_target(target or os.environ.get("SCONCE_TARGET") or f"localhost:{_refs.DEFAULT_PORT}"),
        token=token if token is not None else os.environ.get("SCONCE_TOKEN") or None,
        tls=use_tls,
        root_certificates=_read_pem(roots) if use_tls else None,
        certificate_chain=_read_pem(chain),
        private_key=_read_pem(key),
        timeout=timeout,
        stall_timeout=stall_timeout,
        retry=RetryPolicy(attempts=retries),
    )


def _read_pem(source: Optional[PemSource]) -> Optional[bytes]:
    if source is None or isinstance(source, bytes):
        return source
    with open(source, "rb") as file:
        return file.read()
