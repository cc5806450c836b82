"""Every call goes through here: with the token, the request id, the deadline and the retries that it should have, and errors as this package's own."""

from __future__ import annotations

import uuid
from typing import Any, Iterable, List, Optional, Tuple

import grpc

from sconce._background import Background
from sconce._channel import ProcessChannel, calls_under_way
from sconce._dialog import Dialog
from sconce._errors import from_rpc_error
from sconce._options import Options
from sconce._proto import method
from sconce._retry import RetryPolicy, Retrying
from sconce._stream import ServerStream


class Connection:
    """A server to call. Thread-safe and picklable; usable in children after a fork. Connects with the first call."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.saves = Background()
        self._channel = ProcessChannel(options)

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.options,)

    def close(self) -> None:
        """Ends all calls; those made later are ValueError."""
        self._channel.close()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._channel.closed

    def call(self, name: str, request: Any, *, repeatable: bool = True, timeout: Optional[float] = None, retry: Optional[RetryPolicy] = None) -> Any:
        """A unary call, `name` being "package.Service/Method". Returns the answer.

        A request that takes a request_id gets one, if it has none. `repeatable` says that another try does no harm: after UNAVAILABLE it is made.
        SconceError.
        """
        what = method(name)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = str(uuid.uuid4())
        retrying = Retrying(retry or self.options.retry)
        while True:
            send = self._channel.get().unary_unary(what.path, request_serializer=what.encode, response_deserializer=what.decode)
            calls_under_way.begin()
            try:
                return send(request, timeout=timeout or self.options.timeout, metadata=self._metadata())
            except grpc.RpcError as error:
                failure = from_rpc_error(error, self.options.target)
            finally:
                calls_under_way.end()
            if not repeatable:
                raise failure
            retrying.wait(failure)

    def pages(self, name: str, request: Any) -> Iterable[Any]:
        """The answers of a list call, page by page, as they are asked for."""
        while True:
            page = self.call(name, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def stream(self, name: str, request: Any, *, raw: bool = False, stall_timeout: Optional[float] = None) -> ServerStream:
        """A call that answers with many messages; `raw`: as bytes. Made once: whoever reads resumes. `stall_timeout` 0: it may be quiet forever."""
        what = method(name)
        start = self._channel.get().unary_stream(what.path, request_serializer=what.encode, response_deserializer=None if raw else what.decode)
        call = start(request, metadata=self._metadata())
        return ServerStream(call, self.options.target, self.options.stall_timeout if stall_timeout is None else stall_timeout)

    def dialog(self, name: str, *, stall_timeout: Optional[float] = None) -> Dialog:
        """A call with many messages both ways, sent as bytes."""
        what = method(name)
        start = self._channel.get().stream_stream(what.path, request_serializer=None, response_deserializer=what.decode)
        return Dialog(
            lambda messages: start(messages, metadata=self._metadata()), self.options.target, stall_timeout or self.options.stall_timeout
        )

    def stream_retry(self) -> RetryPolicy:
        """For streams that go on where they broke."""
        return self.options.retry.for_streams(self.options.stream_attempts)

    def _metadata(self) -> List[Tuple[str, str]]:
        return [("authorization", f"Bearer {self.options.token}")] if self.options.token else []
