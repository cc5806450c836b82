"""What a deployment can do beside following: batches, several instances and versions, rollback, canary, shadow, warm-up, updates, watching."""

import io
import json
import os
import pathlib
import signal
import threading
from concurrent import futures

import conftest
import grpc
import numpy
import pytest
import stubs
import torch
from workers import await_, needs_torch, workers_of

inference, models = stubs.inference, stubs.models
pytestmark = needs_torch

RUN = "projects/default/runs/scale"
FOREVER = {"seconds": 10}  # as a queue delay: only a full batch goes


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def push(rpc, w):
    return rpc.import_file("scale", saved({"w": torch.tensor([float(w)])}))


@pytest.fixture(scope="module")
def scale(server):
    """y = x * w: the answer tells the version, since version v has w = v."""
    rpc = server.stubs()
    server.sconce("module", "push", conftest.DATA / "torchscript/scale.pt", "scale@net")
    for version in (1, 2, 3):
        push(rpc, version)
    yield rpc
    rpc.close()


@pytest.fixture
def model(scale, run):
    """Deploys a model of this test's own, which goes at its end."""
    name = run.lower()

    def deploy(checkpoint="1", validate_only=False, **more):
        spec = {"module": f"{RUN}/modules/net", "weights": {"checkpoint": f"{RUN}/checkpoints/{checkpoint}"}, **more}
        request = models.DeployModelRequest(model_id=name, model=spec, validate_only=validate_only)
        return scale.models.DeployModel(request, timeout=120)

    deploy.name = name
    yield deploy
    scale.models.UndeployModel(models.UndeployModelRequest(name=f"models/{name}", allow_missing=True), timeout=60)


def request(name, rows=1, columns=1, parameters=None, **more):
    x = numpy.ones((rows, columns), numpy.float32)
    made = inference.ModelInferRequest(
        model_name=name, inputs=[{"name": "x", "datatype": "FP32", "shape": list(x.shape)}], raw_input_contents=[x.tobytes()], **more
    )
    for key, value in (parameters or {}).items():
        made.parameters[key].int64_param = value
    return made


def ask(rpc, name, **more):
    """The response, whose values are checked to be those of the version that it says ran."""
    response = rpc.inference.ModelInfer(request(name, **more), timeout=60)
    values = numpy.frombuffer(response.raw_output_contents[0], numpy.float32)
    assert (values == float(response.model_version)).all(), (values, response.model_version)
    return response


def version(rpc, name, **more):
    return int(ask(rpc, name, **more).model_version)


def refused(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **more)
    return stubs.reason_of(error.value)[:2], error.value.details()


def get(rpc, name):
    return rpc.models.GetModel(models.GetModelRequest(name=f"models/{name}"), timeout=10)


def update(rpc, name, *mask, **fields):
    change = models.UpdateModelRequest(model={"name": f"models/{name}", **fields}, update_mask={"paths": mask})
    return rpc.models.UpdateModel(change, timeout=60)


def rollback(rpc, name, to=0):
    return rpc.models.RollbackModel(models.RollbackModelRequest(name=f"models/{name}", version=to), timeout=120)


def roles(rpc, name):
    return {models.Model.Role.Name(one.role): one.version for one in get(rpc, name).versions if one.state == models.Model.READY}


def statistics(rpc, name):
    answer = rpc.inference.ModelStatistics(inference.ModelStatisticsRequest(name=name), timeout=10)
    return {int(one.version): one for one in answer.model_stats}


def batches(rpc, name):
    return {batch.batch_size: batch.compute_infer.count for batch in statistics(rpc, name)[1].batch_stats}


def test_requests_of_one_shape_run_together_and_others_do_not(scale, model):
    model(batching={"max_batch_size": 4, "max_queue_delay": FOREVER})
    with futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(version, scale, model.name, columns=columns) for columns in (1, 2) for _ in range(4)]
        assert [answer.result() for answer in answers] == [1] * 8
    assert batches(scale, model.name) == {4: 2}
    assert statistics(scale, model.name)[1].execution_count == 2
    reason, sentence = refused(ask, scale, model.name, rows=5)
    assert reason == ("INVALID_ARGUMENT", "MODEL_INPUT_INVALID") and f"inference request batch-size must be <= 4 for '{model.name}'" in sentence


def test_a_full_queue_turns_away_at_once_and_a_timeout_is_kept(scale, model):
    model(batching={"max_batch_size": 64, "max_queue_delay": FOREVER, "max_queue_size": 2})
    wait = lambda: scale.inference.ModelInfer.future(request(model.name), timeout=120)  # noqa: E731
    waiting = [wait(), wait()]

    def overloaded():
        """Until both wait, this one may be among those that do, and one of the two be turned away for it."""
        waiting[:] = [wait() if call.done() else call for call in waiting]
        try:
            ask(scale, model.name, parameters={"timeout": 20_000})
        except grpc.RpcError as error:
            assert stubs.reason_of(error)[:2] == ("UNAVAILABLE", "MODEL_OVERLOADED")
            return "2 requests waiting" in error.details()
        return False

    await_(overloaded, "the queue is never full")
    waiting[0].cancel()
    reason, sentence = refused(ask, scale, model.name, parameters={"timeout": 20_000})
    assert reason == ("UNAVAILABLE", "MODEL_OVERLOADED")
    assert "within its timeout" in sentence or "waiting" in sentence
    waiting[1].cancel()


def test_instances_share_the_work_and_one_may_die(server, scale, model):
    before = set(workers_of(server))
    model(instance_count=2)
    ours = sorted(set(workers_of(server)) - before)
    assert len(ours) == 2
    threads = [json.loads(line)["threads"] for line in server.log.read_text(encoding="utf-8").splitlines() if "worker_sealed" in line]
    assert threads[-2:] == [int(os.environ.get("OMP_NUM_THREADS", max(1, os.cpu_count() // 2)))] * 2, "they divide the cores"
    for pid in ours:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
        if "OMP_WAIT_POLICY" not in os.environ:
            assert {"OMP_WAIT_POLICY=PASSIVE", "GOMP_SPINCOUNT=1000"} <= set(environment), "a thread that waits soon leaves its core to others"
    (memory,) = statistics(scale, model.name)[1].memory_usage
    assert memory.type == "CPU" and 1 << 20 < memory.byte_size < 1 << 30, "what ending the two would give back"
    os.kill(ours[0], signal.SIGKILL)
    await_(lambda: ours[0] not in workers_of(server), "it is still there")
    for _ in range(50):
        assert version(scale, model.name) == 1
    await_(lambda: len(set(workers_of(server)) - before) == 2, "it is not started again")


def test_a_rollback_is_one_call_and_lasts(scale, model):
    model("1", keep_previous=True)
    update(scale, model.name, "weights", weights={"checkpoint": f"{RUN}/checkpoints/2"})
    await_(lambda: roles(scale, model.name) == {"SERVING": 2, "PREVIOUS": 1}, "2 does not serve")
    back = rollback(scale, model.name)
    assert back.pinned_version == 1 and version(scale, model.name) == 1
    assert rollback(scale, model.name).pinned_version == 2 and version(scale, model.name) == 2
    assert rollback(scale, model.name, to=3).pinned_version == 3 and version(scale, model.name) == 3
    assert refused(rollback, scale, model.name, to=99)[0] == ("NOT_FOUND", "CHECKPOINT_NOT_FOUND")
    update(scale, model.name, "pinned_version")
    await_(lambda: version(scale, model.name) == 2, "it does not follow again")


def test_versions_side_by_side(scale, model):
    model("1", canary={"checkpoint": "2", "weight": 0.5}, shadow={"checkpoint": "3"})
    await_(lambda: roles(scale, model.name) == {"SERVING": 1, "CANARY": 2, "SHADOW": 3}, "they are not there")
    seen = {str(i): version(scale, model.name, id=str(i)) for i in range(40)}
    assert set(seen.values()) == {1, 2}
    assert seen == {i: version(scale, model.name, id=i) for i in seen}, "the same id goes the same way"
    await_(lambda: statistics(scale, model.name)[3].inference_stats.success.count == 80, "the shadow was not asked")
    for exact in (1, 2, 3):
        assert version(scale, model.name, model_version=str(exact)) == exact
    assert version(scale, model.name, parameters={"min_version": 3}) == 3
    assert refused(ask, scale, model.name, parameters={"min_version": 4})[0] == ("UNAVAILABLE", "MODEL_NOT_READY")
    assert list(scale.inference.ModelMetadata(inference.ModelMetadataRequest(name=model.name), timeout=10).versions) == ["1", "2", "3"]
    update(scale, model.name, "canary", "shadow")
    await_(lambda: roles(scale, model.name) == {"SERVING": 1}, "they are still there")


def test_weights_that_answer_nan_are_refused_and_the_old_ones_serve(scale, model):
    rpc = scale
    described = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]}
    bad = rpc.import_file("scale", saved({"w": torch.tensor([float("nan")])}))
    assert model("1", **described).versions[0].note == ""
    update(rpc, model.name, "weights", weights={"checkpoint": bad.name})
    await_(lambda: "NaN" in get(rpc, model.name).reason, "nobody said why")
    assert version(rpc, model.name) == 1
    failed = [one for one in get(rpc, model.name).versions if one.state == models.Model.FAILED]
    assert [one.version for one in failed] == [bad.version] and "output 'OUTPUT__0' has NaN" in failed[0].reason
    reason, sentence = refused(rollback, rpc, model.name, to=bad.version)
    assert reason == ("FAILED_PRECONDITION", "MODEL_WARM_UP_FAILED") and "NaN" in sentence


def test_without_a_description_the_state_says_that_there_was_no_warm_up(model):
    assert "no warm-up" in model("1").versions[0].note


def test_validating_keeps_nothing(scale, model):
    assert model("2", validate_only=True).state == models.Model.READY
    assert refused(get, scale, model.name)[0] == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert refused(model, "99", validate_only=True)[0] == ("NOT_FOUND", "CHECKPOINT_NOT_FOUND")


def test_updates_keep_serving_and_refuse_what_cannot_be(scale, model):
    model("1")
    stop, wrong = threading.Event(), []

    def client():
        while not stop.is_set():
            try:
                ask(scale, model.name)
            except (grpc.RpcError, AssertionError) as error:
                wrong.append(error)

    asking = threading.Thread(target=client)
    asking.start()
    etag = get(scale, model.name).etag
    update(scale, model.name, batching={"max_batch_size": 8}, keep_previous=True)  # without a mask: what is set
    config = inference.ModelConfigRequest(name=model.name)
    await_(lambda: scale.inference.ModelConfig(config, timeout=10).config.max_batch_size == 8, "it is not batched")
    update(scale, model.name, "weights", weights={"checkpoint": f"{RUN}/checkpoints/2"})
    await_(lambda: version(scale, model.name) == 2, "2 does not serve")
    stop.set()
    asking.join()
    assert not wrong, wrong[:3]
    assert get(scale, model.name).keep_previous and get(scale, model.name).batching.max_batch_size == 8
    assert refused(update, scale, model.name, "device", device="cpu", etag=etag)[0] == ("ABORTED", "ETAG_MISMATCH")
    assert refused(update, scale, model.name, "module")[0] == ("INVALID_ARGUMENT", "UPDATE_MASK_INVALID")
    assert refused(update, scale, model.name, module=f"{RUN}/modules/other")[0] == ("INVALID_ARGUMENT", "ARGUMENT_INVALID")
    elsewhere = {"checkpoint": "projects/default/runs/other/checkpoints/1"}
    assert refused(update, scale, model.name, "weights", weights=elsewhere)[0] == ("INVALID_ARGUMENT", "ARGUMENT_INVALID")
    assert refused(update, scale, model.name, "canary", canary={"checkpoint": "2", "weight": 1.5})[0] == ("INVALID_ARGUMENT", "ARGUMENT_INVALID")
    assert refused(update, scale, model.name, "transition", transition="RESOURCE_PRESERVING")[0] == ("INVALID_ARGUMENT", "ARGUMENT_INVALID")


def test_a_watch_tells_what_changes(scale, model):
    watch = scale.models.WatchModels(models.WatchModelsRequest(name=f"models/{model.name}"), timeout=60)
    model("1")
    states = iter(watch)
    await_(lambda: next(states).state == models.Model.READY, "it never gets ready")
    rollback(scale, model.name, to=2)
    await_(lambda: next(states).versions[0].version == 2, "the rollback is not told")
    scale.models.UndeployModel(models.UndeployModelRequest(name=f"models/{model.name}"), timeout=60)
    await_(lambda: next(states).state == models.Model.UNLOADING, "its end is not told")
    watch.cancel()
    assert refused(lambda: list(scale.models.WatchModels(models.WatchModelsRequest(name="x/y"), timeout=10)))[0] == ("INVALID_ARGUMENT", "NAME_INVALID")


def test_a_stream_answers_in_order_and_goes_on_after_an_error(scale, model):
    model("2")
    requests = [request(model.name if i != 7 else "nobody", id=str(i), columns=1 + i % 3) for i in range(40)]
    answers = list(scale.inference.ModelStreamInfer(iter(requests), timeout=60))
    assert [answer.infer_response.id for answer in answers] == [str(i) for i in range(40)]
    assert "unknown model: 'nobody'" in answers[7].error_message and not any(answer.error_message for i, answer in enumerate(answers) if i != 7)
    assert numpy.frombuffer(answers[8].infer_response.raw_output_contents[0], numpy.float32).tolist() == [2, 2, 2]


def test_the_tool_shows_changes_and_rolls_back_a_deployment(server, scale, run):
    name = run.lower()
    server.sconce("model", "deploy", name, "--module", "scale@net", "--weights", "scale@1", "--max-batch", "4", "--keep-previous", "--input", "x=FP32[-1,1]")
    shown = server.sconce("model", "show", name).stdout
    for line in (f"{name}  READY", "module: scale@net", "weights: scale@1", "batches: up to 4", "input: x=FP32[-1,1]", "1  SERVING  READY"):
        assert line in shown, shown
    server.sconce("model", "update", name, "--weights", "scale@2", "--canary", "3=0.5")
    await_(lambda: roles(scale, name) == {"SERVING": 2, "CANARY": 3, "PREVIOUS": 1}, "the new versions are not there")
    now = get(scale, name)
    assert now.batching.max_batch_size == 4 and now.keep_previous and now.canary.weight == 0.5
    assert "2, 1 PREVIOUS, 3 CANARY" in server.sconce("model", "ls").stdout
    rolled_back = server.sconce("model", "rollback", name)
    assert "version 1" in rolled_back.stdout and f"sconce model update {name} --follow" in rolled_back.stderr
    assert get(scale, name).pinned_version == 1
    assert "pinned to: version 1" in server.sconce("model", "show", name).stdout
    server.sconce("model", "update", name, "--follow", "--no-canary")
    await_(lambda: "CANARY" not in roles(scale, name) and version(scale, name) == 2, "it does not follow again")
    stale = server.sconce("model", "update", name, "--instances", "2", "--etag", "stale", check=False)
    assert stale.returncode == 1 and "ETAG_MISMATCH" in stale.stderr
    nothing = server.sconce("model", "update", name, check=False)
    assert nothing.returncode == 2 and "nothing to change" in nothing.stderr
    server.sconce("model", "rm", name)
    tried = server.sconce("model", "deploy", name, "--module", "scale@net", "--weights", "scale@3", "--validate-only")
    assert "nothing was" in tried.stderr and name not in server.sconce("model", "ls", "-o", "name").stdout


def test_unloaded_a_deployment_is_kept_over_a_restart_and_a_watch_ends_with_the_server(new_server):
    server = new_server().start()
    rpc = server.stubs()
    server.sconce("module", "push", conftest.DATA / "torchscript/scale.pt", "scale@net")
    push(rpc, 1)
    server.sconce("model", "deploy", "m", "--module", "scale@net", "--weights", "scale@latest")
    rpc.inference.RepositoryModelUnload(inference.RepositoryModelUnloadRequest(model_name="m"), timeout=30)
    await_(lambda: not workers_of(server), "its worker is still there")
    watch = rpc.models.WatchModels(models.WatchModelsRequest(), timeout=60)
    assert next(watch).state == models.Model.UNLOADED
    assert server.stop() == 0
    with pytest.raises(grpc.RpcError) as error:
        list(watch)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    rpc.close()
    rpc = server.start().stubs()
    assert rpc.inference.ServerReady(inference.ServerReadyRequest(), timeout=10).ready
    assert refused(ask, rpc, "m")[0] == ("UNAVAILABLE", "MODEL_NOT_READY")
    rpc.inference.RepositoryModelLoad(inference.RepositoryModelLoadRequest(model_name="m"), timeout=120)
    assert version(rpc, "m") == 1
    rpc.close()
