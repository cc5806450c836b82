"""A TorchScript module with the weights of a checkpoint answers over the Open Inference Protocol what PyTorch itself answers."""

import io
import json
import time

import conftest
import grpc
import numpy
import pytest
import stubs
import torch
from workers import needs_torch

inference, models = stubs.inference, stubs.models

pytestmark = needs_torch

MODULE, WEIGHTS, SAMPLE = (conftest.DATA / name for name in ("bnnet_scripted_train_mode.pt", "bnnet_trained.pt", "bnnet_io.pt"))


@pytest.fixture(scope="module")
def sample():
    return torch.load(SAMPLE)


def state_dict():
    return torch.load(WEIGHTS)["model_state_dict"]


@pytest.fixture(scope="module")
def deployed(server):
    """Module and weights pushed and deployed by the tool, as an operator would."""
    server.sconce("module", "push", MODULE, "bn@net")
    server.sconce("push", WEIGHTS, "bn")
    server.sconce("model", "deploy", "bn", "--module", "bn@net", "--weights", "bn@best", "--path", "/model_state_dict")
    rpc = server.stubs()
    yield rpc
    rpc.close()


def tensor_request(x, model="bn", **more):
    return inference.ModelInferRequest(
        model_name=model,
        inputs=[{"name": "x", "datatype": "FP32", "shape": list(x.shape)}],
        raw_input_contents=[x.contiguous().numpy().tobytes()],
        **more,
    )


def answer_of(response):
    output = response.outputs[0]
    assert output.datatype == "FP32"
    return torch.from_numpy(numpy.frombuffer(response.raw_output_contents[0], dtype=numpy.float32).copy()).reshape(list(output.shape))


def infer(rpc, x, **more):
    return answer_of(rpc.inference.ModelInfer(tensor_request(x, **more), timeout=60))


def test_the_answer_is_pytorchs_in_eval_mode(deployed, sample):
    assert torch.jit.load(MODULE).training, "the archive was saved in train mode"
    assert (infer(deployed, sample["x"]) - sample["y"]).abs().max() < 1e-5


def test_twice_the_same_bits(deployed, sample):
    first = deployed.inference.ModelInfer(tensor_request(sample["x"]), timeout=60)
    second = deployed.inference.ModelInfer(tensor_request(sample["x"]), timeout=60)
    assert list(first.raw_output_contents) == list(second.raw_output_contents)


def test_the_tool_infers_from_a_file(server, deployed, sample, tmp_path):
    result = server.sconce("infer", "bn", "--input", f"x={SAMPLE}#/x", "-o", "json")
    output = json.loads(result.stdout)["outputs"][0]
    values = torch.tensor(output["data"]).reshape(list(map(int, output["shape"])))
    assert (values - sample["y"]).abs().max() < 1e-5


def test_ready_and_metadata(deployed):
    assert deployed.inference.ModelReady(inference.ModelReadyRequest(name="bn"), timeout=10).ready
    metadata = deployed.inference.ModelMetadata(inference.ModelMetadataRequest(name="bn"), timeout=10)
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("bn", ["1"], "pytorch_torchscript")
    assert [one.name for one in metadata.inputs] == ["x"]
    response = deployed.inference.ModelInfer(tensor_request(torch.zeros_like(torch.load(SAMPLE)["x"]), id="abc"), timeout=60)
    assert (response.model_name, response.model_version, response.id) == ("bn", "1", "abc")


def test_typed_contents_are_answered_in_kind(deployed, sample):
    request = inference.ModelInferRequest(
        model_name="bn",
        inputs=[{"name": "x", "datatype": "FP32", "shape": list(sample["x"].shape), "contents": {"fp32_contents": sample["x"].flatten().tolist()}}],
    )
    output = deployed.inference.ModelInfer(request, timeout=60).outputs[0]
    values = torch.tensor(list(output.contents.fp32_contents)).reshape(list(output.shape))
    assert (values - sample["y"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda r: r.raw_input_contents.__setitem__(0, b"1234"), "MODEL_INPUT_INVALID"),
        (lambda r: setattr(r.inputs[0], "name", "no_such_input"), "MODEL_INPUT_INVALID"),
        (lambda r: setattr(r.inputs[0], "datatype", "FP31"), "MODEL_INPUT_INVALID"),
        (lambda r: r.inputs[0].shape.__setitem__(0, -4), "MODEL_INPUT_INVALID"),
        (lambda r: r.ClearField("raw_input_contents"), "MODEL_INPUT_INVALID"),
        (lambda r: setattr(r, "model_version", "77"), "MODEL_VERSION_NOT_FOUND"),
    ],
)
def test_bad_requests_are_refused_and_the_model_still_answers(deployed, sample, change, reason):
    request = tensor_request(sample["x"])
    change(request)
    with pytest.raises(grpc.RpcError) as error:
        deployed.inference.ModelInfer(request, timeout=60)
    assert stubs.reason_of(error.value)[1] == reason, error.value.details()
    assert (infer(deployed, sample["x"]) - sample["y"]).abs().max() < 1e-5


def deploy(rpc, model_id, module, checkpoint=None, path=""):
    weights = {"checkpoint": checkpoint, "path": path} if checkpoint else None
    return rpc.models.DeployModel(models.DeployModelRequest(model_id=model_id, model={"module": module, "weights": weights}), timeout=120)


def refused_deployment(rpc, *arguments, **more):
    with pytest.raises(grpc.RpcError) as error:
        deploy(rpc, *arguments, **more)
    listed = rpc.models.ListModels(models.ListModelsRequest(), timeout=10).models
    assert f"models/{arguments[0]}" not in [one.name for one in listed], "a failed deployment is not kept"
    return stubs.reason_of(error.value)[:2], error.value.details()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_weights_that_do_not_fit_are_refused_with_the_keys(deployed):
    partial = deployed.import_file("partial", saved({k: v for k, v in state_dict().items() if not k.startswith("head")} | {"extra.weight": torch.rand(3)}))
    reason, sentence = refused_deployment(deployed, "partial", "projects/default/runs/bn/modules/net", partial.name)
    assert reason == ("FAILED_PRECONDITION", "MODEL_WEIGHTS_MISMATCH")
    assert "head" in sentence and "extra.weight" in sentence


def test_a_state_dict_inside_a_checkpoint_is_found_by_its_path(deployed, sample):
    whole = deployed.import_file("nested", saved({"models": [{"a": 1}, {"b/c": state_dict()}]}))
    deploy(deployed, "nested", "projects/default/runs/bn/modules/net", whole.name, "/models/1/b~1c")
    assert (infer(deployed, sample["x"], model="nested") - sample["y"]).abs().max() < 1e-5
    reason, sentence = refused_deployment(deployed, "nested2", "projects/default/runs/bn/modules/net", whole.name, "/nope")
    assert reason == ("NOT_FOUND", "PATH_NOT_FOUND") and "/nope" in sentence


def test_unknown_parts_and_names_are_refused(deployed):
    assert refused_deployment(deployed, "m1", "projects/default/runs/bn/modules/nope")[0] == ("NOT_FOUND", "MODULE_NOT_FOUND")
    net = "projects/default/runs/bn/modules/net"
    assert refused_deployment(deployed, "m2", net, "projects/default/runs/bn/checkpoints/99")[0] == ("NOT_FOUND", "CHECKPOINT_NOT_FOUND")
    with pytest.raises(grpc.RpcError) as error:
        deploy(deployed, "bn", net)
    assert stubs.reason_of(error.value)[:2] == ("ALREADY_EXISTS", "MODEL_ALREADY_EXISTS")
    with pytest.raises(grpc.RpcError) as error:
        deploy(deployed, "../m", net)
    assert stubs.reason_of(error.value)[:2] == ("INVALID_ARGUMENT", "NAME_INVALID")


def test_what_is_deployed_is_protected(deployed):
    with pytest.raises(grpc.RpcError) as error:
        deployed.checkpoints.DeleteCheckpoint(stubs.checkpoints.DeleteCheckpointRequest(name="projects/default/runs/bn/checkpoints/1"), timeout=10)
    assert stubs.reason_of(error.value)[:2] == ("FAILED_PRECONDITION", "CHECKPOINT_PROTECTED")


def test_a_deployment_follows_its_selector(deployed, sample):
    """`best` moves: the model serves the better version by itself, and answers all the while."""
    weights = state_dict()
    zeros = {k: torch.zeros_like(v) for k, v in weights.items()}
    deployed.import_file("follow", saved({"loss": 0.9, "model_state_dict": zeros}))
    deploy(deployed, "follow", "projects/default/runs/bn/modules/net", "projects/default/runs/follow/checkpoints/best", "/model_state_dict")
    assert (infer(deployed, sample["x"], model="follow") - sample["y"]).abs().max() > 1e-3
    deployed.import_file("follow", saved({"loss": 0.1, "model_state_dict": weights}))
    give_up = time.monotonic() + 60
    while True:
        response = deployed.inference.ModelInfer(tensor_request(sample["x"], model="follow"), timeout=60)
        if response.model_version == "2":
            break
        assert time.monotonic() < give_up, "it still serves version " + response.model_version
        time.sleep(0.05)
    assert (answer_of(response) - sample["y"]).abs().max() < 1e-5


def test_undeploying_ends_it(deployed, sample):
    deploy(deployed, "brief", "projects/default/runs/bn/modules/net")
    infer(deployed, sample["x"], model="brief")
    deployed.models.UndeployModel(models.UndeployModelRequest(name="models/brief"), timeout=60)
    with pytest.raises(grpc.RpcError) as error:
        infer(deployed, sample["x"], model="brief")
    assert stubs.reason_of(error.value)[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_deployments_survive_a_restart(new_server, sample):
    server = new_server().start()
    server.sconce("module", "push", MODULE, "bn@net")
    server.sconce("push", WEIGHTS, "bn")
    server.sconce("model", "deploy", "bn", "--module", "bn@net", "--weights", "bn@best", "--path", "/model_state_dict")
    assert server.stop() == 0
    rpc = server.start().stubs()
    give_up = time.monotonic() + 60
    while not rpc.inference.ModelReady(inference.ModelReadyRequest(name="bn"), timeout=10).ready:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert (infer(rpc, sample["x"]) - sample["y"]).abs().max() < 1e-5
    rpc.close()
