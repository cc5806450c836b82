"""Models and the processes that run them, for tests that drive the real server."""

import pathlib
import time

import numpy
import pytest
import sconced
import stubs

needs_torch = pytest.mark.skipif(not (sconced.BIN / "sconce-torch-worker").exists(), reason="built without LibTorch")


def workers_of(server):
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task")

    def children(task):
        try:
            return (task / "children").read_text().split()
        except OSError:  # the thread has just ended
            return []

    return sorted(int(pid) for task in tasks.iterdir() for pid in children(task))


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_(condition, what, seconds=60):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def deploy(server, model, module, weights=None, path="", check=False):
    run = f"{model}-run"
    server.sconce("module", "push", module, f"{run}@net")
    arguments = []
    if weights is not None:
        server.sconce("push", weights, run)
        arguments = ["--weights", f"{run}@latest", "--path", path]
    return server.sconce("model", "deploy", model, "--module", f"{run}@net", *arguments, check=check)


DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8"}


def request(model, *arrays):
    """ModelInferRequest with raw contents; Triton's names for the inputs."""
    return stubs.inference.ModelInferRequest(
        model_name=model,
        inputs=[
            {"name": f"INPUT__{i}", "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)} for i, array in enumerate(arrays)
        ],
        raw_input_contents=[array.tobytes() for array in arrays],
    )


def infer(rpc, model, *arrays, timeout=60):
    """All outputs, as float32 or int64 arrays of their shapes."""
    response = rpc.inference.ModelInfer(request(model, *arrays), timeout=timeout)
    numpy_types = {datatype: name for name, datatype in DATATYPES.items()}
    return [
        numpy.frombuffer(raw, dtype=numpy_types[output.datatype]).reshape(list(output.shape))
        for output, raw in zip(response.outputs, response.raw_output_contents)
    ]


def ask(rpc, model, x, timeout=60):
    """The first output, flat."""
    return infer(rpc, model, x, timeout=timeout)[0].reshape(-1)
