"""A full session of the unmodified tritonclient.grpc with a server: run by test_tritonclient.py in a virtual environment that has only that package.

  tritonclient_session.py TARGET

The server has `scale` (y = x * 3 in FP32, described as [-1, 2], in batches of at most 4) and `brain` (the same in BF16). Ends with 0 when all is as it should be.
"""

import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def refused(code, sentence, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and sentence in error.message(), (error.status(), error.message())
        return
    raise AssertionError(f"it should have been refused: {sentence}")


def tensor(values, name="INPUT__0", datatype="FP32"):
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


ROWS = np.array([[1, 2], [3, 4]], np.float32)


def server_calls(client):
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "sconce" and metadata.version
    assert sorted(metadata.extensions) == ["model_configuration", "model_repository", "parameters", "statistics"]


def model_calls(client):
    assert client.is_model_ready("scale") and client.is_model_ready("scale", "1")
    refused("NOT_FOUND", "Request for unknown model: 'nobody' is not found", client.is_model_ready, "nobody")
    metadata = client.get_model_metadata("scale", as_json=True)
    assert metadata["versions"] == ["1"] and metadata["platform"] == "pytorch_torchscript"
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}], metadata
    assert metadata["outputs"] == [{"name": "OUTPUT__0", "datatype": "FP32", "shape": ["-1", "2"]}], metadata
    config = client.get_model_config("scale").config
    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("scale", "pytorch_torchscript", "pytorch", 4)
    assert config.input[0].name == "x" and list(config.input[0].dims) == [2] and config.input[0].data_type == 11  # TYPE_FP32
    assert config.instance_group[0].count == 1 and config.dynamic_batching.max_queue_delay_microseconds == 1000
    index = {(one.name, one.version): one.state for one in client.get_model_repository_index().models}
    assert index == {("scale", "1"): "READY", ("brain", "1"): "READY"}, index


def inference(client):
    result = client.infer("scale", [tensor(ROWS)], request_id="abc", outputs=[triton.InferRequestedOutput("OUTPUT__0")])
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("scale", "1", "abc")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), ROWS * 3)
    for more in ({"model_version": "1"}, {"compression_algorithm": "gzip"}, {"client_timeout": 30}, {"timeout": 20_000_000}, {"parameters": {"min_version": 1}}):
        np.testing.assert_array_equal(client.infer("scale", [tensor(ROWS, "x")], **more).as_numpy("OUTPUT__0"), ROWS * 3)
    result = client.infer("brain", [tensor(ROWS, datatype="BF16")])
    assert result.get_response().outputs[0].datatype == "BF16"
    np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), ROWS * 3)


def errors(client):
    refused("NOT_FOUND", "'scale' version 7 is not found", client.infer, "scale", [tensor(ROWS)], model_version="7")
    refused(
        "INVALID_ARGUMENT", "failed to get model version from specified version string 'x'", client.infer, "scale", [tensor(ROWS)], model_version="x"
    )
    refused("UNAVAILABLE", "'scale' version >= 9 is not at ready state", client.infer, "scale", [tensor(ROWS)], parameters={"min_version": 9})
    wide = np.zeros((1, 3), np.float32)
    refused(
        "INVALID_ARGUMENT", "unexpected shape for input 'x' for model 'scale'. Expected [-1,2], got [1,3].", client.infer, "scale", [tensor(wide)]
    )
    refused(
        "INVALID_ARGUMENT", "inference input 'x' data-type is 'INT32', but model 'scale' expects 'FP32'",
        client.infer, "scale", [tensor(ROWS.astype(np.int32), datatype="INT32")],
    )
    long = np.zeros((5, 2), np.float32)
    refused("INVALID_ARGUMENT", "inference request batch-size must be <= 4 for 'scale'", client.infer, "scale", [tensor(long)])
    refused(
        "INVALID_ARGUMENT", "expected 1 inputs but got 0 inputs for model 'scale'. Got input(s) [], but missing required input(s) ['x'].",
        client.infer, "scale", [],
    )
    refused("UNIMPLEMENTED", "sequence_id", client.infer, "scale", [tensor(ROWS)], sequence_id=5)


def asynchronous(client):
    answers = queue.Queue()
    for _ in range(20):
        client.async_infer("scale", [tensor(ROWS)], callback=lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=60)
        assert error is None, error
        np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), ROWS * 3)


def streaming(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(50):
        values = np.full((1, 2), number, np.float32)
        client.async_stream_infer("scale" if number != 13 else "nobody", [tensor(values)], request_id=str(number))
    for number in range(50):
        result, error = answers.get(timeout=60)
        if number == 13:
            assert "Request for unknown model: 'nobody' is not found" in str(error), error
            continue
        assert error is None and result.get_response().id == str(number), (number, error)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), np.full((1, 2), number * 3, np.float32))
    client.stop_stream()


def statistics(client):
    [scale] = client.get_inference_statistics("scale", "1").model_stats
    sums = scale.inference_stats
    assert sums.success.count >= 70 and scale.inference_count >= sums.success.count >= scale.execution_count, scale
    assert sum(batch.compute_infer.count for batch in scale.batch_stats) == scale.execution_count
    assert sum(batch.batch_size * batch.compute_infer.count for batch in scale.batch_stats) == scale.inference_count
    assert sums.queue.count == sums.compute_infer.count == sums.success.count and scale.last_inference > 0
    assert {one.name for one in client.get_inference_statistics().model_stats} == {"scale", "brain"}


def repository(client):
    client.unload_model("brain")
    assert not client.is_model_ready("brain") and client.is_server_ready()
    refused("UNAVAILABLE", "it is unloaded", client.infer, "brain", [tensor(ROWS, datatype="BF16")])
    [row] = [one for one in client.get_model_repository_index().models if one.name == "brain"]
    assert (row.state, row.reason) == ("UNAVAILABLE", "unloaded")
    client.load_model("brain")
    np.testing.assert_array_equal(client.infer("brain", [tensor(ROWS, datatype="BF16")]).as_numpy("OUTPUT__0"), ROWS * 3)
    refused("NOT_FOUND", "Request for unknown model: 'nobody' is not found", client.load_model, "nobody")
    refused("NOT_FOUND", "Request for unknown model: 'nobody' is not found", client.unload_model, "nobody")
    refused("UNIMPLEMENTED", "deploy it with sconce.v1.ModelService", client.load_model, "brain", config="{}")


def main():
    with triton.InferenceServerClient(sys.argv[1]) as client:
        for part in (server_calls, model_calls, inference, errors, asynchronous, streaming, statistics, repository):
            part(client)
            print(f"{part.__name__}: as it should be", flush=True)


main()
