"""The way in: a server, and its runs."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Tuple

from sconce import _options, _refs
from sconce._connection import Connection
from sconce._errors import SconceError
from sconce._info import RunInfo
from sconce._options import Options, PemSource
from sconce._run import Run, all_runs


def connect(
    target: Optional[str] = None,
    *,
    project: str = _refs.DEFAULT_PROJECT,
    token: Optional[str] = None,
    tls: Optional[bool] = None,
    root_certificates: Optional[PemSource] = None,
    client_cert: Optional[Tuple[PemSource, PemSource]] = None,
    timeout: float = 60.0,
    stall_timeout: float = 60.0,
    retries: int = 5,
) -> Client:
    """A client of the server at `target`: HOST[:PORT], unix:PATH or sconce://HOST[:PORT]. Does not wait for it: the first call finds out.

    target: default SCONCE_TARGET, else localhost:7433.
    project: of refs that name none.
    token: sent with every call; default SCONCE_TOKEN.
    tls: whether the connection is encrypted; by default when certificates are given. True without any trusts the system's authorities.
    root_certificates: a PEM file, or its bytes, of the authorities to trust; default SCONCE_CACERT. client_cert: certificate and key likewise.
    timeout: seconds of a small call. stall_timeout: seconds a transfer may stand still; it may take as long as it makes progress.
    retries: attempts of a call while the server is unavailable, the first one included.

    OSError for a certificate that cannot be read; ValueError (InvalidArgumentError for names).

    >>> connect("gpu-7").run("vision/resnet50")
    <sconce.Run vision/resnet50 at gpu-7:7433>
    """
    options = _options.resolve(
        target,
        token=token,
        tls=tls,
        root_certificates=root_certificates,
        client_cert=client_cert,
        timeout=timeout,
        stall_timeout=stall_timeout,
        retries=retries,
    )
    return Client(options, project)


class Client:
    """A Sconce server. Made by connect().

    Thread-safe and picklable; a copy in another process, or in a child after a fork, makes a connection of its own. A context manager, which closes it.
    """

    def __init__(self, options: Options, project: str = _refs.DEFAULT_PROJECT) -> None:
        self._project = _refs.check_id("project", project)
        self._connection = Connection(options)

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.options.target

    def __repr__(self) -> str:
        return f"<sconce.Client of {self.target}>"

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self._connection.options, self._project)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            self.close()
        except Exception:  # pylint: disable=broad-except
            if kind is None:
                raise  # otherwise what ended the block matters more

    def close(self) -> None:
        """Waits for a save_async that is under way, then ends all other calls of this process; those made later are ValueError. Raises what the save failed with,
        as wait. May be called again."""
        try:
            self.wait()
        finally:
            self._connection.close()

    def wait(self, timeout: Optional[float] = None) -> None:
        """Returns when no save_async of this client is under way. Raises what the last one failed with, unless that was raised before. DeadlineError (a TimeoutError)
        after `timeout` seconds: the save goes on then."""
        self._connection.saves.wait(timeout)

    def run(self, ref: str) -> Run:
        """A run, by `[project/]run`, `sconce://host[:port]/[project/]run` or its full name. Nothing is sent. InvalidArgumentError for a malformed ref, one of a
        version, or one of another server."""
        parsed = _refs.parse_run(ref, self._project)
        if parsed.target and parsed.target != self.target:
            raise _other_server(parsed, self.target)
        return Run(self._connection, parsed)

    def runs(self, project: Optional[str] = None) -> Iterator[RunInfo]:
        """Runs of a project, by default the client's, ordered by name; "-" is all projects."""
        wanted = self._project if project is None else project
        return all_runs(self._connection, "" if wanted == "-" else _refs.check_id("project", wanted))


def _other_server(ref: _refs.Ref, target: str) -> SconceError:
    return _refs.invalid("ARGUMENT_INVALID", f"{ref} is at {ref.target}, and this client is connected to {target}", {"target": ref.target})
