"""Clients that know nothing of Sconce: the unmodified tritonclient from PyPI, and grpcurl."""

import io
import json
import subprocess

import conftest
import pytest
import stubs
import torch
from test_lifecycle import grpcurl
from workers import needs_torch

models = stubs.models
pytestmark = needs_torch


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def scale(server):
    """y = x * 3, once as it is and once in BF16."""
    rpc = server.stubs()
    server.sconce("module", "push", conftest.DATA / "torchscript/scale.pt", "scale@net")
    rpc.import_file("scale", saved({"w": torch.tensor([3.0])}))
    model = {"module": "projects/default/runs/scale/modules/net", "weights": {"checkpoint": "projects/default/runs/scale/checkpoints/latest"}}
    rows = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    described = {"inputs": [rows], "outputs": [{**rows, "name": "OUTPUT__0"}], "batching": {"max_batch_size": 4, "max_queue_delay": {"nanos": 1_000_000}}}
    deployed = rpc.models.DeployModel(models.DeployModelRequest(model_id="scale", model={**model, **described}), timeout=120)
    assert deployed.versions[0].note == "", "it was warmed up"
    cast = {"cast": {"dtype": "bfloat16"}, "inputs": [{**rows, "datatype": "BF16"}]}
    rpc.models.DeployModel(models.DeployModelRequest(model_id="brain", model={**model, **cast}), timeout=120)
    yield rpc
    rpc.close()


@pytest.mark.usefixtures("scale")
def test_a_full_session_of_the_unmodified_tritonclient(server):
    made = subprocess.run([stubs.SOURCE / "tests/support/venv.sh", "tritonclient"], capture_output=True, text=True, check=False, timeout=600)
    if made.returncode != 0:
        pytest.skip(f"no tritonclient here: {made.stderr.strip()[-300:]}")
    session = stubs.SOURCE / "tests/support/tritonclient_session.py"
    result = subprocess.run([made.stdout.strip(), "-I", session, server.target], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("as it should be") == 8


@pytest.mark.usefixtures("scale")
def test_a_session_of_grpcurl_with_typed_contents(server):
    def call(method, request=None, service="inference.GRPCInferenceService"):
        command = [grpcurl(), "-plaintext", "-emit-defaults", *(["-d", json.dumps(request)] if request else []), server.target, f"{service}/{method}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return json.loads(result.stdout) if result.returncode == 0 else result.stderr

    assert call("ServerLive") == {"live": True} and call("ServerReady") == {"ready": True}
    assert call("ServerMetadata")["name"] == "sconce"
    assert call("ModelReady", {"name": "scale"}) == {"ready": True}
    assert call("ModelMetadata", {"name": "scale"})["inputs"][0]["shape"] == ["-1", "2"]
    assert call("ModelConfig", {"name": "scale"})["config"]["maxBatchSize"] == 4
    request = {
        "model_name": "scale",
        "id": "by-hand",
        "inputs": [{"name": "INPUT__0", "datatype": "FP32", "shape": [2, 2], "contents": {"fp32_contents": [1, 2, 3, 4]}}],
    }
    answer = call("ModelInfer", request)
    assert (answer["modelName"], answer["modelVersion"], answer["id"]) == ("scale", "1", "by-hand")
    assert answer["outputs"][0]["contents"]["fp32Contents"] == [3, 6, 9, 12] and answer["rawOutputContents"] == []
    assert call("ModelStatistics", {"name": "scale"})["modelStats"][0]["inferenceStats"]["success"]["count"] != "0"
    assert {row["name"] for row in call("RepositoryIndex")["models"]} == {"scale", "brain"}
    request["inputs"][0]["shape"] = [4, 1]
    refusal = call("ModelInfer", request)
    assert "InvalidArgument" in refusal and "unexpected shape for input 'x' for model 'scale'. Expected [-1,2], got [4,1]." in refusal
    assert '"reason": "MODEL_INPUT_INVALID"' in refusal, "the details are decoded by reflection"
    shown = call("GetModel", {"name": "models/scale"}, "sconce.v1.ModelService")
    assert (shown["state"], shown["versions"][0]["role"]) == ("READY", "SERVING")
