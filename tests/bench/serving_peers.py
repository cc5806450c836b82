"""Servers in Python that serve the same module over the same protocol: one that people write themselves, and MLServer where it can be installed."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import grpc

from serving_parts import Program, inference, stubs

HERE = pathlib.Path(__file__).resolve().parent


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


class MlServer:
    """MLServer with one model; with `batch`, its adaptive batching. It computes in a process of its own, as by default."""

    def __init__(self, python, folder, name, module, batch=0):
        folder.mkdir()
        http, rpc, metrics = free_ports(3)
        settings = {"http_port": http, "grpc_port": rpc, "metrics_port": metrics, "host": "127.0.0.1", "debug": False}
        model = {"name": name, "implementation": "serving_mlserver.TorchScript", "parameters": {"uri": str(module)}}
        if batch:
            model.update({"max_batch_size": batch, "max_batch_time": 0.005})
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
        self.log = folder / "log"
        self.target = f"127.0.0.1:{rpc}"
        with open(self.log, "wb") as log:
            command = [str(pathlib.Path(python).parent / "mlserver"), "start", str(folder)]
            environment = {**os.environ, "PYTHONPATH": str(HERE)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=folder)  # it writes there
        try:
            self._wait(name)
        except Exception:
            self.stop()
            raise

    def _wait(self, name):
        give_up = time.monotonic() + 90
        with grpc.insecure_channel(self.target) as channel:
            stub = stubs.grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.RpcError):
                    if stub.ModelReady(inference.ModelReadyRequest(name=name), timeout=5, wait_for_ready=True).ready:
                        return
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"MLServer does not serve: {self.log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def peers(folder, name, module, batch):
    """(what it is, the running server) of each that there is."""
    yield "Python, grpc.aio and torch.jit.load", Program(sys.executable, HERE / "serving_peer.py", name, module)
    made = subprocess.run([str(stubs.SOURCE / "tests/support/venv.sh"), "mlserver"], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        print(f"MLServer is skipped: {made.stderr.strip().splitlines()[-1]}\n", flush=True)
        return
    python = made.stdout.strip()
    try:
        yield "MLServer 1.7.1", MlServer(python, folder / "mlserver", name, module)
        yield f"MLServer 1.7.1, max_batch_size {batch}", MlServer(python, folder / "mlserver-batches", name, module, batch)
    except RuntimeError as error:
        print(f"MLServer is skipped: {error}\n", flush=True)
