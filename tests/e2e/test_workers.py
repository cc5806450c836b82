"""The processes that run models: killed, signalled, orphaned, missing; and what PyTorch itself says of the same modules and weights."""

import os
import signal
import threading

import conftest
import grpc
import numpy
import pytest
import stubs
import torch
from workers import alive, ask, await_, deploy, needs_torch, workers_of

inference = stubs.inference
TORCHSCRIPT = conftest.DATA / "torchscript"


@pytest.fixture(scope="module")
def scale(server):
    result = deploy(server, "scale", TORCHSCRIPT / "scale.pt")
    assert result.returncode == 0, result.stderr
    rpc = server.stubs()
    yield rpc
    rpc.close()


ONE = numpy.ones(3, numpy.float32)


@needs_torch
def test_a_worker_killed_under_load_costs_its_requests_and_comes_back(server, scale):
    stop, answered, died, other = threading.Event(), [], [], []

    def client():
        while not stop.is_set():
            try:
                answered.append(ask(scale, "scale", ONE).tolist() == [1, 1, 1])
            except grpc.RpcError as error:
                code, reason = stubs.reason_of(error)[:2]
                (died if (code, reason) == ("UNAVAILABLE", "WORKER_DIED") else other).append(reason)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for one in clients:
        one.start()
    for _ in range(3):
        before = len(answered)
        await_(lambda: len(answered) > before, "the model does not answer")
        [worker] = workers_of(server)
        seen = len(died)
        os.kill(worker, signal.SIGKILL)
        await_(lambda: len(died) > seen, "nobody heard of the death")
    before = len(answered)
    await_(lambda: len(answered) > before, "the model does not come back")
    stop.set()
    for one in clients:
        one.join()
    assert all(answered) and not other, other
    assert len(workers_of(server)) == 1


@needs_torch
def test_a_signal_for_all_of_a_terminal_does_not_end_a_worker(server, scale):
    ask(scale, "scale", ONE)
    before = workers_of(server)
    for worker in before:
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    assert ask(scale, "scale", ONE).tolist() == [1, 1, 1]
    assert workers_of(server) == before


@needs_torch
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_no_worker_outlives_the_server(new_server, end):
    server = new_server().start()
    assert deploy(server, "scale", TORCHSCRIPT / "scale.pt").returncode == 0
    workers = workers_of(server)
    assert len(workers) == 1
    getattr(server, end)()
    await_(lambda: not any(map(alive, workers)), "a worker is left")


@needs_torch
def test_undeploying_ends_the_worker(server, scale):
    before = workers_of(server)
    assert deploy(server, "brief", TORCHSCRIPT / "pair.pt").returncode == 0
    assert len(workers_of(server)) == len(before) + 1
    server.sconce("model", "rm", "brief")
    await_(lambda: workers_of(server) == before, "its worker is still there")


@needs_torch
def test_a_large_input_passes_and_one_beyond_the_limit_does_not(server, scale):
    large = numpy.arange(5 << 20, dtype=numpy.float32)  # 20 MiB, more than other calls take
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=inference.ModelInferRequest.SerializeToString,
            response_deserializer=inference.ModelInferResponse.FromString,
        )

        def request(x):
            return inference.ModelInferRequest(
                model_name="scale", inputs=[{"name": "x", "datatype": "FP32", "shape": list(x.shape)}], raw_input_contents=[x.tobytes()]
            )

        assert call(request(large), timeout=60).raw_output_contents[0] == large.tobytes()
        with pytest.raises(grpc.RpcError) as error:
            call(request(numpy.zeros(17 << 20, numpy.float32)), timeout=60)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_without_the_worker_program_deploying_says_what_to_install(new_server):
    server = new_server(flags=["--worker", "/nonexistent/sconce-torch-worker"]).start()
    result = deploy(server, "scale", TORCHSCRIPT / "scale.pt")
    assert result.returncode != 0 and "TORCH_UNAVAILABLE" in result.stderr and "libtorch-dev" in result.stderr, result.stderr
    assert "/nonexistent" not in result.stderr, "where programs are is not for clients"
    assert server.stop() == 0


@needs_torch
def test_refused_weights_are_told_in_pytorchs_own_words(server, tmp_path):
    module = conftest.DATA / "bnnet_scripted_train_mode.pt"
    weights = torch.load(conftest.DATA / "bnnet_trained.pt")["model_state_dict"]
    partial = {k: v for k, v in weights.items() if not k.startswith("head")}
    partial["extra.weight"] = torch.rand(3)
    partial["features.0.bias"] = torch.rand(9)
    torch.save({"model": partial}, tmp_path / "partial.pt")
    with pytest.raises(RuntimeError) as by_torch:
        torch.jit.load(module).load_state_dict(partial)
    result = deploy(server, "partial", module, tmp_path / "partial.pt", "/model")
    assert result.returncode != 0 and "MODEL_WEIGHTS_MISMATCH" in result.stderr
    for line in str(by_torch.value).splitlines():
        assert line.strip() in result.stderr, f"{line!r} is not in {result.stderr!r}"


@needs_torch
def test_a_module_traced_in_train_mode_is_refused_and_one_traced_in_eval_mode_is_served(server, tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.drop = torch.nn.Linear(3, 4), torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.fc(x))

    x = torch.rand(2, 3)
    net = Net()
    torch.jit.trace(net.train(), x, check_trace=False).save(tmp_path / "train.pt")
    torch.jit.trace(net.eval(), x).save(tmp_path / "eval.pt")
    result = deploy(server, "train", tmp_path / "train.pt")
    assert result.returncode != 0 and "TRAINING_MODE_FROZEN" in result.stderr and "aten::dropout" in result.stderr
    assert deploy(server, "eval", tmp_path / "eval.pt").returncode == 0
    rpc = server.stubs()
    answer = torch.from_numpy(ask(rpc, "eval", x.numpy()).copy()).reshape(2, 4)
    assert (answer - net(x)).abs().max() < 1e-5
    rpc.close()


@needs_torch
def test_the_traced_fixture_is_served(server):
    fixtures = conftest.shared_fixtures()
    if fixtures is None:
        pytest.skip("the shared fixtures are not here")
    rpc = server.stubs()
    folder = fixtures / "torch-1.13"  # what a newer release writes an older LibTorch may not read
    sample = torch.load(folder / "bnnet_io.pt")
    result = deploy(server, "traced", folder / "bnnet_traced.pt", folder / "bnnet_trained.pt", "/model_state_dict")
    assert result.returncode == 0, result.stderr
    answer = torch.from_numpy(ask(rpc, "traced", sample["x"].contiguous().numpy()).copy()).reshape(sample["y"].shape)
    assert (answer - sample["y"]).abs().max() < 1e-5
    rpc.close()
