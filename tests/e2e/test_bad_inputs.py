"""Requests and modules that are wrong in every way we know: each a clear error with its reason, and nothing is harmed."""

import math
import zipfile

import conftest
import grpc
import numpy
import pytest
import stubs
import torch
from workers import await_, deploy, infer, needs_torch, request, workers_of

pytestmark = needs_torch
inference = stubs.inference
TORCHSCRIPT = conftest.DATA / "torchscript"
ONE = numpy.ones(3, numpy.float32)


@pytest.fixture(scope="module")
def models(server):
    deploy(server, "scale", TORCHSCRIPT / "scale.pt", check=True)
    deploy(server, "mismatch", TORCHSCRIPT / "mismatch.pt", check=True)
    deploy(server, "throws", TORCHSCRIPT / "throws.pt", check=True)
    deploy(server, "many", TORCHSCRIPT / "many.pt", check=True)
    return workers_of(server)


@pytest.fixture
def unharmed(server, rpc, models):
    """The same processes answer as before, when the test is over."""
    yield rpc
    assert infer(rpc, "scale", ONE)[0].tolist() == [1, 1, 1]
    await_(lambda: workers_of(server) == models, "other processes than before")  # of what was refused one may still be ending


def refused(rpc, message, timeout=60):
    with pytest.raises(grpc.RpcError) as error:
        rpc.inference.ModelInfer(message, timeout=timeout)
    assert "\n" not in error.value.details()
    return (*stubs.reason_of(error.value)[:2], error.value.details())


def raw(shape, data, name="x", datatype="FP32", model="scale", **more):
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    return inference.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[data], **more)


def typed(shape, contents, name="x", datatype="FP32", model="scale"):
    tensor = {"name": name, "datatype": datatype, "shape": shape, "contents": contents}
    return inference.ModelInferRequest(model_name=model, inputs=[tensor])


def two(*names):
    tensors = [{"name": name, "datatype": "FP32", "shape": [1]} for name in names]
    return inference.ModelInferRequest(model_name="scale", inputs=tensors, raw_input_contents=[b"\0" * 4 for _ in names])


FOUR = b"\0" * 4
INVALID_REQUESTS = {
    "too few bytes": raw([2], FOUR),
    "too many bytes": raw([1], FOUR + FOUR),
    "no bytes": raw([1], b""),
    "not whole elements": raw([1], b"\0" * 3),
    "bytes for no tensor": inference.ModelInferRequest(
        model_name="scale", inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}], raw_input_contents=[FOUR, FOUR]
    ),
    "no input": inference.ModelInferRequest(model_name="scale"),
    "an unknown name": raw([1], FOUR, name="nonsense"),
    "an empty name": raw([1], FOUR, name=""),
    "a place too far": raw([1], FOUR, name="INPUT__7"),
    "an input too many": two("x", "y"),
    "an input twice": two("x", "x"),
    "both names of an input": two("x", "INPUT__0"),
    "an unknown type": raw([1], FOUR, datatype="FP31"),
    "no type": raw([1], FOUR, datatype=""),
    "text": typed([1], {"bytes_contents": [b"hello"]}, datatype="BYTES"),
    "a negative dim": raw([-1], FOUR),
    "the least dim": raw([-(1 << 63)], FOUR),
    "a huge dim": raw([1 << 62], FOUR),
    "dims whose product wraps to one": raw([1 << 32, 1 << 32, 1], FOUR),
    "dims whose bytes wrap": raw([1 << 62, 4], b""),
    "too many dims": raw([1] * 1000, FOUR),
    "nothing, in many dims": raw([0, 1 << 62, 1 << 62], FOUR),
    "typed: too few": typed([3], {"fp32_contents": [1, 2]}),
    "typed: too many": typed([1], {"fp32_contents": [1, 2]}),
    "typed: of another type": typed([1], {"int64_contents": [1]}),
    "typed: of two types": typed([1], {"fp32_contents": [1], "int_contents": [1]}),
    "typed: out of range": typed([1], {"int_contents": [300]}, datatype="INT8"),
    "typed: half floats": typed([1], {"fp32_contents": [1]}, datatype="FP16"),
    "typed and raw": inference.ModelInferRequest(
        model_name="scale",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}],
        raw_input_contents=[FOUR],
    ),
}


@pytest.mark.parametrize("what", INVALID_REQUESTS)
def test_a_request_that_does_not_fit_itself_is_refused(unharmed, what):
    code, reason, message = refused(unharmed, INVALID_REQUESTS[what])
    assert code == "INVALID_ARGUMENT", (code, reason, message)
    assert reason in ("MODEL_INPUT_INVALID", "ARGUMENT_INVALID", "INVALID_ARGUMENT"), (reason, message)
    assert len(message) > 10


def test_unknown_models_and_versions_are_not_found(unharmed):
    code, reason, message = refused(unharmed, raw([1], FOUR, model="nobody"))
    assert (code, reason) == ("NOT_FOUND", "MODEL_NOT_FOUND") and "nobody" in message
    code, reason, message = refused(unharmed, raw([1], FOUR, model_version="999"))
    assert code == "NOT_FOUND" and "999" in message, (reason, message)
    code, *_ = refused(unharmed, raw([1], FOUR, model=""))
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_a_shape_that_the_module_cannot_take_is_told_in_its_own_words(unharmed):
    code, reason, message = refused(unharmed, raw([2, 3], b"\0" * 24, model="mismatch"))
    assert (code, reason) == ("INTERNAL", "MODEL_FAILED") and message.startswith("mat1 and mat2 shapes cannot be multiplied")
    code, reason, message = refused(unharmed, raw([2], b"\0" * 8, model="mismatch"))
    assert (code, reason) == ("INTERNAL", "MODEL_FAILED") and "must be a matrix" in message, message


def test_an_exception_is_its_first_line(unharmed):
    code, reason, message = refused(unharmed, raw([1], FOUR, model="throws"))
    assert (code, reason, message) == ("INTERNAL", "MODEL_FAILED", "it throws")


def test_a_missing_input_is_named(unharmed):
    code, reason, message = refused(unharmed, raw([], b"\0" * 8, name="n", datatype="INT64", model="many"))
    assert (code, reason) == ("INVALID_ARGUMENT", "MODEL_INPUT_INVALID") and "'x'" in message.replace('"', "'"), message


def test_nan_infinity_and_nothing_are_values_like_others(unharmed):
    x = numpy.array([math.nan, math.inf, -math.inf, -0.0, 1e-45], numpy.float32)
    assert infer(unharmed, "scale", x)[0].tobytes() == x.tobytes()
    answer = unharmed.inference.ModelInfer(typed([2], {"fp32_contents": [math.nan, math.inf]}), timeout=60)
    assert math.isnan(answer.outputs[0].contents.fp32_contents[0]), "typed inputs get typed outputs"
    assert infer(unharmed, "scale", numpy.zeros((0, 3), numpy.float32))[0].shape == (0, 3)


def test_another_dtype_is_what_the_module_makes_of_it(unharmed):
    # As in PyTorch, which multiplies them; nothing is converted silently on the way in.
    answer = unharmed.inference.ModelInfer(request("scale", numpy.ones(3, numpy.float64)), timeout=60)
    assert answer.outputs[0].datatype in ("FP32", "FP64")
    code, reason, message = refused(unharmed, request("mismatch", numpy.zeros((2, 2), bool)))
    assert (code, reason) == ("INTERNAL", "MODEL_FAILED"), message


# What is no module, or none that runs here.
def not_deployed(server, model, path):
    result = deploy(server, model, path)
    assert result.returncode != 0
    assert model not in server.sconce("model", "ls", "-o", "name").stdout.split()
    return result.stderr


def test_what_is_no_torchscript_is_refused(server, unharmed, tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("not a zip archive at all")
    (tmp_path / "cut.pt").write_bytes((TORCHSCRIPT / "linear.pt").read_bytes()[:-200])
    for name in ("weights", "text", "cut"):
        pushed = server.sconce("module", "push", tmp_path / f"{name}.pt", f"bad-{name}@net", check=False)
        if pushed.returncode == 0:
            result = server.sconce("model", "deploy", f"bad-{name}", "--module", f"bad-{name}@net", check=False)
            assert result.returncode != 0
            pushed = result
        assert any(word in pushed.stderr for word in ("INVALID", "TRUNCATED", "UNSUPPORTED")), pushed.stderr


def test_an_operator_that_is_not_there_is_named(server, unharmed, tmp_path):
    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x)

    torch.jit.script(Net()).save(tmp_path / "good.pt")
    rewrite(tmp_path / "good.pt", tmp_path / "bad.pt", b"torch.relu(", b"torch.rexu(")
    stderr = not_deployed(server, "unknown-operator", tmp_path / "bad.pt")
    assert "MODULE_INVALID" in stderr and "rexu" in stderr, stderr
    rewrite(tmp_path / "good.pt", tmp_path / "custom.pt", b"torch.relu(x)", b"ops.mine.frob(x)")
    stderr = not_deployed(server, "custom-operator", tmp_path / "custom.pt")
    assert "MODULE_INVALID" in stderr and "mine::frob" in stderr, stderr


def rewrite(source, target, old, new):
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for item in before.infolist():
            data = before.read(item)
            if item.filename.endswith(".py"):
                assert old in data
                data = data.replace(old, new)
            if not item.filename.endswith(".debug_pkl"):
                after.writestr(item.filename, data)


def test_a_module_without_forward_is_refused(server, unharmed, tmp_path):
    class Net(torch.nn.Module):
        @torch.jit.export
        def other(self, x):
            return x

    torch.jit.script(Net()).save(tmp_path / "net.pt")
    assert "MODULE_INVALID" in not_deployed(server, "no-forward", tmp_path / "net.pt")
