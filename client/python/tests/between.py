"""A proxy between client and server that a test can have do harm: every call goes through it message by message, as bytes."""

import concurrent.futures

import grpc


class Between:
    """`on_answer(method, index, message)` sees each answer of a stream, and returns what is passed on in its place, or raises Cut.
    `on_call(method, metadata)` sees each call, and may raise Cut, too."""

    def __init__(self, target, credentials=None):
        self.on_answer = lambda method, index, message: message
        self.on_call = lambda method, metadata: None
        self._channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)])
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers([_Handlers(self)])
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def forward(self, method, messages, context):
        call = None
        try:
            self.on_call(method, dict(context.invocation_metadata()))
            call = self._channel.stream_stream(method)(messages)
            context.add_callback(call.cancel)
            for index, message in enumerate(call):
                yield self.on_answer(method, index, message)
        except Cut as cut:
            context.abort(cut.code, "cut in between")
        except grpc.RpcError as error:
            context.set_trailing_metadata([pair for pair in error.trailing_metadata() if pair[0] == "grpc-status-details-bin"])
            context.abort(error.code(), error.details())
        finally:
            if call is not None:
                call.cancel()

    def close(self):
        self._server.stop(None).wait()
        self._channel.close()


class Cut(Exception):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE):
        super().__init__()
        self.code = code


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, between):
        self._between = between

    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(lambda messages, context: self._between.forward(details.method, messages, context))
