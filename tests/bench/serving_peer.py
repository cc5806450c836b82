#!/usr/bin/python3
"""What people write themselves: a minimal grpc.aio server of the Open Inference Protocol around torch.jit.load, for serving_bench.py.

    serving_peer.py MODEL MODULE          prints its address; ends with its standard input
"""

import asyncio
import pathlib
import sys

import grpc
import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import stubs  # noqa: E402

inference = stubs.inference


class Service(stubs.grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, name, module):
        self.name, self.module = name, module

    async def ModelInfer(self, request, context):  # pylint: disable=invalid-overridden-method
        inputs = [
            torch.from_numpy(numpy.frombuffer(raw, numpy.float32).copy()).reshape(list(described.shape))
            for described, raw in zip(request.inputs, request.raw_input_contents)
        ]
        with torch.inference_mode():
            y = self.module(*inputs)
        return inference.ModelInferResponse(
            model_name=self.name,
            model_version="1",
            outputs=[{"name": "OUTPUT__0", "datatype": "FP32", "shape": list(y.shape)}],
            raw_output_contents=[y.numpy().tobytes()],
        )


async def main(name, path):
    server = grpc.aio.server()
    stubs.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(name, torch.jit.load(path).eval()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
