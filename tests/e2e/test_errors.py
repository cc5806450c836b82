"""Bad input gets the right code, one reason, a sentence that names the object, and changes nothing."""

import hashlib
import io
import itertools
import pathlib
import threading
import time

import grpc
import pytest
import stubs
import torch

checkpoints, transfer, models, inference = stubs.checkpoints, stubs.transfer, stubs.models, stubs.inference
RUN = "projects/default/runs/known"


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


FILE = saved({"epoch": 1, "loss": 0.5, "w": torch.arange(5000)})


@pytest.fixture(scope="module")
def known(server):
    """A run with two versions and an alias, none of which has the metric that `best` of the other run needs."""
    rpc = server.stubs()
    rpc.import_file("known", FILE)
    rpc.import_file("known", saved({"epoch": 2, "loss": 0.25}))
    rpc.checkpoints.SetAlias(checkpoints.SetAliasRequest(name=f"{RUN}/aliases/prod", selector="1"), timeout=10)
    rpc.import_file("lossless", saved({"epoch": 1}), push={"checkpoint": {"metrics": {"accuracy": 0.5}}})
    rpc.import_file("opaque", b"no pickle at all", opaque=True)
    yield rpc
    rpc.close()


def state(server, rpc):
    """All that a failed call could have changed: what the catalog lists, and the files of blobs and uploads."""
    runs = rpc.checkpoints.ListRuns(checkpoints.ListRunsRequest(page_size=1000), timeout=10).runs
    versions = [
        rpc.checkpoints.ListCheckpoints(checkpoints.ListCheckpointsRequest(parent=run.name, page_size=1000), timeout=10).checkpoints
        for run in runs
    ]
    files = [
        (str(path.relative_to(server.data_dir)), path.stat().st_size)
        for folder in ("blobs", "uploads", "orphans")
        for path in sorted((server.data_dir / folder).rglob("*"))
        if path.is_file()
    ]
    return [run.SerializeToString(deterministic=True) for run in runs], [[v.SerializeToString(deterministic=True) for v in vs] for vs in versions], files


def import_messages(parent=RUN, pieces=(FILE,), offsets=None, header=True, **options):
    if header:
        yield transfer.ImportCheckpointRequest(header={"push": {"parent": parent, **options.pop("push", {})}, **options})
    for number, piece in enumerate(pieces):
        message = transfer.ImportCheckpointRequest(data=piece)
        if offsets:
            message.offset = offsets[number]
        yield message


def importing(**options):
    return lambda rpc: rpc.transfer.ImportCheckpoint(import_messages(**options), timeout=30)


def call(service, method, request):
    """A call; a stream is read to its end."""

    def make(rpc):
        answer = getattr(getattr(rpc, service), method)(request, timeout=30)
        return list(answer) if hasattr(answer, "__next__") else answer

    return make


def get(name):
    return call("checkpoints", "GetCheckpoint", checkpoints.GetCheckpointRequest(name=name))


def export(name=f"{RUN}/checkpoints/latest", **options):
    return call("transfer", "ExportCheckpoint", transfer.ExportCheckpointRequest(name=name, **options))


def fetch(name=f"{RUN}/checkpoints/latest", **options):
    return call("transfer", "FetchCheckpoint", transfer.FetchCheckpointRequest(name=name, **options))


def push(*messages):
    return lambda rpc: rpc.transfer.PushCheckpoint(iter(messages), timeout=30)


P = transfer.PushCheckpointRequest
HEADER = P(header={"parent": RUN})

# what is done, code, reason, a word that the sentence must have
CASES = {
    "unknown run": (get("projects/default/runs/nope/checkpoints/1"), "NOT_FOUND", "RUN_NOT_FOUND", "nope"),
    "unknown project": (get("projects/nope/runs/known/checkpoints/1"), "NOT_FOUND", "RUN_NOT_FOUND", "nope"),
    "unknown version": (get(f"{RUN}/checkpoints/99"), "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "99"),
    "version 0": (get(f"{RUN}/checkpoints/0"), "INVALID_ARGUMENT", "SELECTOR_INVALID", "0"),
    "version -1": (get(f"{RUN}/checkpoints/-1"), "INVALID_ARGUMENT", "SELECTOR_INVALID", "-1"),
    "version beyond 64 bits": (get(f"{RUN}/checkpoints/99999999999999999999"), "INVALID_ARGUMENT", "SELECTOR_INVALID", "99999999999999999999"),
    "unknown alias": (get(f"{RUN}/checkpoints/staging"), "NOT_FOUND", "ALIAS_NOT_FOUND", "staging"),
    "bad selector": (get(f"{RUN}/checkpoints/Best!"), "INVALID_ARGUMENT", "SELECTOR_INVALID", "Best!"),
    "best without the metric": (get("projects/default/runs/lossless/checkpoints/best"), "NOT_FOUND", "BEST_UNDEFINED", "accuracy"),
    "a name that climbs": (get("projects/default/runs/../checkpoints/1"), "INVALID_ARGUMENT", "NAME_INVALID", ""),
    "an import into a name that climbs": (importing(parent="projects/default/runs/.."), "INVALID_ARGUMENT", "NAME_INVALID", ""),
    "an import into a name with a slash": (importing(parent="projects/default/runs/a/../../b"), "INVALID_ARGUMENT", "NAME_INVALID", ""),
    "an import into a hidden name": (importing(parent="projects/.x/runs/a"), "INVALID_ARGUMENT", "NAME_INVALID", ".x"),
    "an import into a name that is too long": (importing(parent=f"projects/default/runs/{'a' * 129}"), "INVALID_ARGUMENT", "NAME_INVALID", ""),
    "an empty name": (get(""), "INVALID_ARGUMENT", "NAME_INVALID", ""),
    "half a file": (importing(pieces=(FILE[: len(FILE) // 2],)), "INVALID_ARGUMENT", "FILE_TRUNCATED", ""),
    "no bytes": (importing(pieces=()), "INVALID_ARGUMENT", None, ""),
    "no checkpoint": (importing(pieces=(b"hello, world" * 100,)), "INVALID_ARGUMENT", None, ""),
    "a wrong offset": (importing(pieces=(FILE[:100], FILE[100:]), offsets=[0, 101]), "INVALID_ARGUMENT", "OFFSET_MISMATCH", "100"),
    "a piece sent twice": (importing(pieces=(FILE[:100], FILE[:100]), offsets=[0, 0]), "INVALID_ARGUMENT", "OFFSET_MISMATCH", "100"),
    "a wrong digest": (importing(sha256=hashlib.sha256(b"other").hexdigest()), "INVALID_ARGUMENT", "DIGEST_MISMATCH", ""),
    "a wrong piece checksum": (
        lambda rpc: rpc.transfer.ImportCheckpoint(
            itertools.chain(import_messages(pieces=()), [transfer.ImportCheckpointRequest(data=FILE, xxh3=bytes(16))]), timeout=30
        ),
        "INVALID_ARGUMENT", "DIGEST_MISMATCH", "",
    ),
    "data before the header": (importing(header=False), "INVALID_ARGUMENT", "STREAM_PROTOCOL_VIOLATED", "header"),
    "no message at all": (importing(header=False, pieces=()), "INVALID_ARGUMENT", "STREAM_PROTOCOL_VIOLATED", ""),
    "two headers": (
        lambda rpc: rpc.transfer.ImportCheckpoint(itertools.chain(import_messages(pieces=()), import_messages()), timeout=30),
        "INVALID_ARGUMENT", "STREAM_PROTOCOL_VIOLATED", "header",
    ),
    "a run that may not be made": (importing(parent="projects/default/runs/newcomer", push={"no_create": True}), "NOT_FOUND", "RUN_NOT_FOUND", "newcomer"),
    "an epoch that is not the file's": (importing(push={"checkpoint": {"epoch": 7}}), "INVALID_ARGUMENT", "ATTRIBUTE_CONFLICT", "epoch"),
    "a loss that is not the file's": (importing(push={"checkpoint": {"metrics": {"loss": 0.75}}}), "INVALID_ARGUMENT", "ATTRIBUTE_CONFLICT", "loss"),
    "an unknown parent version": (importing(push={"checkpoint": {"parent_version": 77}}), "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "77"),
    "a message of 5 MiB": (importing(pieces=(bytes(5 << 20),)), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", ""),
    "a push without a manifest": (push(HEADER), "INVALID_ARGUMENT", None, ""),
    "a push with a manifest of noise": (push(HEADER, P(manifest=b"\x00\x01noise" * 50)), "INVALID_ARGUMENT", "MANIFEST_INVALID", ""),
    "a push that begins with data": (push(P(data=b"x")), "INVALID_ARGUMENT", "STREAM_PROTOCOL_VIOLATED", ""),
    "an export from beyond the end": (export(offset=1 << 40), "OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE", ""),
    "a plan of something else": (export(plan="0" * 64, name=f"{RUN}/checkpoints/1"), "ABORTED", "PLAN_CHANGED", ""),
    "a fetch from beyond the end": (fetch(offset=1 << 40), "OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE", ""),
    "a fetch of opaque bytes": (fetch("projects/default/runs/opaque/checkpoints/1"), "FAILED_PRECONDITION", "CHECKPOINT_OPAQUE", ""),
    "a path that is not there": (export(selection={"root": "/nope"}), "NOT_FOUND", "PATH_NOT_FOUND", "/nope"),
    "a pattern that is none": (export(selection={"include": ["/[a"]}), "INVALID_ARGUMENT", "PATTERN_INVALID", "[a"),
    "a cast to what is no dtype": (export(cast={"dtype": "float15"}), "INVALID_ARGUMENT", "CAST_INVALID", "float8_e5m2"),
    "safetensors of a scalar": (export(format="SAFETENSORS", selection={"root": "/epoch"}), "INVALID_ARGUMENT", "FILE_UNSUPPORTED", "root"),
    "a page token of noise": (
        call("checkpoints", "ListCheckpoints", checkpoints.ListCheckpointsRequest(parent=RUN, page_token="noise")),
        "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", "",
    ),
    "a negative page": (
        call("checkpoints", "ListCheckpoints", checkpoints.ListCheckpointsRequest(parent=RUN, page_size=-1)),
        "INVALID_ARGUMENT", "ARGUMENT_INVALID", "page_size",
    ),
    "a run that exists": (call("checkpoints", "CreateRun", checkpoints.CreateRunRequest(run_id="known")), "ALREADY_EXISTS", "RUN_ALREADY_EXISTS", "known"),
    "deleting a run with versions": (call("checkpoints", "DeleteRun", checkpoints.DeleteRunRequest(name=RUN)), "FAILED_PRECONDITION", "RUN_NOT_EMPTY", "known"),
    "deleting what an alias holds": (
        call("checkpoints", "DeleteCheckpoint", checkpoints.DeleteCheckpointRequest(name=f"{RUN}/checkpoints/1")),
        "FAILED_PRECONDITION", "CHECKPOINT_PROTECTED", "prod",
    ),
    "an alias with a stale etag": (
        call("checkpoints", "SetAlias", checkpoints.SetAliasRequest(name=f"{RUN}/aliases/prod", selector="2", etag="stale")),
        "ABORTED", "ETAG_MISMATCH", "",
    ),
    "an alias that must be new": (
        call("checkpoints", "SetAlias", checkpoints.SetAliasRequest(name=f"{RUN}/aliases/prod", selector="2", must_be_new=True)),
        "ABORTED", "ETAG_MISMATCH", "",
    ),
    "an alias called latest": (
        call("checkpoints", "SetAlias", checkpoints.SetAliasRequest(name=f"{RUN}/aliases/latest", selector="2")),
        "INVALID_ARGUMENT", "NAME_INVALID", "latest",
    ),
    "an alias to nothing": (
        call("checkpoints", "SetAlias", checkpoints.SetAliasRequest(name=f"{RUN}/aliases/next", selector="99")),
        "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "99",
    ),
    "another value of a metric": (
        call("checkpoints", "UpdateCheckpoint", checkpoints.UpdateCheckpointRequest(checkpoint={"name": f"{RUN}/checkpoints/1", "metrics": {"loss": 9.0}})),
        "ALREADY_EXISTS", "METRIC_ALREADY_SET", "loss",
    ),
    "a mask of something immutable": (
        call(
            "checkpoints", "UpdateCheckpoint",
            checkpoints.UpdateCheckpointRequest(checkpoint={"name": f"{RUN}/checkpoints/1"}, update_mask={"paths": ["epoch"]}),
        ),
        "INVALID_ARGUMENT", "UPDATE_MASK_INVALID", "epoch",
    ),
    "an unknown module": (call("transfer", "FetchModule", transfer.FetchModuleRequest(name=f"{RUN}/modules/net")), "NOT_FOUND", "MODULE_NOT_FOUND", "net"),
    "a call of a later release": (
        call("checkpoints", "DiffCheckpoints", checkpoints.DiffCheckpointsRequest(name=f"{RUN}/checkpoints/1", other_name=f"{RUN}/checkpoints/2")),
        "UNIMPLEMENTED", "NOT_IMPLEMENTED", "",
    ),
    "an unknown model": (call("inference", "ModelInfer", inference.ModelInferRequest(model_name="nope")), "NOT_FOUND", "MODEL_NOT_FOUND", "nope"),
    "undeploying an unknown model": (call("models", "UndeployModel", models.UndeployModelRequest(name="models/nope")), "NOT_FOUND", "MODEL_NOT_FOUND", "nope"),
}


@pytest.mark.parametrize("what", CASES)
def test_refused_and_nothing_changed(what, server, known):
    make, code, reason, word = CASES[what]
    before = state(server, known)
    with pytest.raises(grpc.RpcError) as error:
        make(known)
    got_code, got_reason, _ = stubs.reason_of(error.value)
    sentence = error.value.details()
    assert got_code == code, sentence
    assert got_reason is not None, f"no ErrorInfo: {sentence}"
    if reason is not None:
        assert got_reason == reason, sentence
    assert word in sentence
    assert sentence and str(server.data_dir) not in sentence, "no internal paths"
    assert state(server, known) == before


def test_a_reused_request_id_is_refused_and_a_retry_is_not(server, known):
    first = known.import_file("known", FILE, request_id="11111111-1111-4111-8111-111111111111")
    before = state(server, known)
    again = known.import_file("known", FILE, request_id="11111111-1111-4111-8111-111111111111")
    assert again.version == first.version
    with pytest.raises(grpc.RpcError) as error:
        known.import_file("known", saved({"other": 1}), request_id="11111111-1111-4111-8111-111111111111")
    assert stubs.reason_of(error.value)[:2] == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert state(server, known) == before


def test_a_push_that_is_cancelled_half_way_leaves_nothing(server, known):
    before = state(server, known)
    half_sent = threading.Event()

    def messages():
        yield from import_messages(parent="projects/default/runs/cancelled", pieces=(FILE[:2000],))
        half_sent.set()
        cancelled.wait()

    cancelled = threading.Event()
    push_call = known.transfer.ImportCheckpoint.future(messages(), timeout=30)
    assert half_sent.wait(30)
    push_call.cancel()
    cancelled.set()
    with pytest.raises(grpc.FutureCancelledError):
        push_call.result()
    eventually(lambda: state(server, known) == before)


def eventually(condition, timeout=30):
    """For what the server does after the client has its answer, such as removing the file of a cancelled upload."""
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.05)


def test_the_tool_says_what_is_wrong_and_exits_with_an_error(server, known, tmp_path):
    for arguments, word in [
        (["show", "nope@best"], "RUN_NOT_FOUND"),
        (["pull", "known@99", "-o", tmp_path / "x.pt"], "CHECKPOINT_NOT_FOUND"),
        (["pull", "known@Best!", "-o", tmp_path / "x.pt"], "SELECTOR_INVALID"),
        (["push", tmp_path / "absent.pt", "known"], "absent.pt"),
        (["ls", "a/../b"], "NAME_INVALID"),
    ]:
        result = server.sconce(*arguments, check=False)
        assert result.returncode != 0, arguments
        assert word in result.stderr, result.stderr
        assert not result.stdout
    assert not pathlib.Path(tmp_path / "x.pt").exists()
