"""Models and the processes that run them, for tests that drive the real server."""

import contextlib
import pathlib
import time

import numpy
import pytest
import sconced
import stubs

needs_torch = pytest.mark.skipif(not (sconced.BIN / "sconce-torch-worker").exists(), reason="built without LibTorch")


TEMPLATE = "torch-template"  # the process that workers are copied from


def processes_of(server):
    """What a server has started: the names by process id."""
    names = {}
    for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread or a process that has just ended
            for pid in map(int, (task / "children").read_text().split()):
                names[pid] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return names


def workers_of(server):
    return sorted(pid for pid, name in processes_of(server).items() if name != TEMPLATE)


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
