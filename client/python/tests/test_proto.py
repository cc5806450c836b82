"""The descriptors that the package carries, and that it shares no pool with anybody."""

import shutil
import subprocess
import sys

import pytest
from conftest import SOURCE
from google.protobuf import descriptor_pb2
from sconce import _proto
from sconce._proto import inference, method, rpc, v1

PACKAGE = SOURCE / "client/python"


def read(path):
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return {file.name: file for file in files}


def test_the_descriptors_are_those_of_the_proto_files(tmp_path):
    if shutil.which("protoc") is None:
        pytest.skip("no protoc here: apt install protobuf-compiler")
    subprocess.run([PACKAGE / "tools/make_descriptors.sh", tmp_path / "made"], check=True)
    made, kept = read(tmp_path / "made"), read(PACKAGE / "sconce/_proto/descriptors.binpb")
    ours = [name for name in made if not name.startswith("google/protobuf/")]  # those differ between protoc's releases
    assert "sconce/v1/transfer_service.proto" in ours and set(made) == set(kept)
    for name in ours:
        assert made[name] == kept[name], f"{name} has changed: run client/python/tools/make_descriptors.sh"


def test_messages_of_all_packages_are_there():
    upload = v1.BeginUploadRequest(header={"parent": "projects/p/runs/r", "checkpoint": {"step": 3, "metrics": {"loss": 0.5}}}, expected_parts=2)
    assert v1.BeginUploadRequest.FromString(upload.SerializeToString()).header.checkpoint.metrics["loss"] == 0.5
    assert rpc.ErrorInfo(reason="X").reason == "X"
    assert inference.ModelInferRequest(model_name="m").model_name == "m"
    assert method("sconce.v1.CheckpointService/WatchCheckpoints").decode(b"") == v1.WatchCheckpointsResponse()
    with pytest.raises(AttributeError, match="no message Nonsense"):
        v1.Nonsense  # pylint: disable=pointless-statement


def test_times_have_their_methods():
    checkpoint = v1.Checkpoint()
    checkpoint.create_time.FromJsonString("2026-01-02T03:04:05Z")
    assert checkpoint.create_time.ToDatetime().year == 2026


def test_the_default_pool_stays_as_it_was():
    """What tritonclient and googleapis-common-protos register there, the same names with other content, before or after."""
    code = """
import sys
from google.protobuf import descriptor_pb2, descriptor_pool
if sys.argv[1] == "before":
    import sconce._errors
pool = descriptor_pool.Default()
for name, package, message in [("grpc_service.proto", "inference", "ModelInferRequest"), ("google/rpc/status.proto", "google.rpc", "Status")]:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package)
    file.message_type.add(name=message).field.add(name="mine", number=77, type=9, label=1)
    pool.AddSerializedFile(file.SerializeToString())
import sconce._errors
from sconce._proto import inference, rpc
assert list(pool.FindMessageTypeByName("inference.ModelInferRequest").fields_by_number) == [77]
assert inference.ModelInferRequest(model_name="m").model_name == "m"
assert rpc.Status(code=5).code == 5
"""
    for order in ("before", "after"):
        subprocess.run([sys.executable, "-c", code, order], cwd=PACKAGE, check=True)


def test_enums_by_name_and_number():
    assert _proto.enum_number("sconce.v1.UploadChunksResponse.Verdict.Action", "PROVE") == 2
    assert _proto.enum_name("sconce.v1.WatchCheckpointsResponse.Event", 5) == "ALIAS_MOVED"
