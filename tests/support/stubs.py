"""Generated Python stubs of the protocol, made on import into a folder that goes away with the process, and helpers over them."""

import atexit
import pathlib
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent

FOLDER = tempfile.mkdtemp(prefix="sconce-stubs-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
subprocess.run([str(SOURCE / "examples/generate_stubs.sh"), FOLDER], check=True)
sys.path.insert(0, FOLDER)

# pylint: disable=wrong-import-position
import grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from inference import grpc_service_pb2 as inference  # noqa: E402, F401
from inference import grpc_service_pb2_grpc  # noqa: E402
from sconce.v1 import admin_service_pb2_grpc  # noqa: E402
from sconce.v1 import checkpoint_service_pb2 as checkpoints  # noqa: E402, F401
from sconce.v1 import checkpoint_service_pb2_grpc  # noqa: E402
from sconce.v1 import model_service_pb2 as models  # noqa: E402, F401
from sconce.v1 import model_service_pb2_grpc  # noqa: E402
from sconce.v1 import transfer_service_pb2 as transfer  # noqa: E402
from sconce.v1 import transfer_service_pb2_grpc  # noqa: E402

PIECE = 1 << 20


class Stubs:
    """Every service over one channel. `timeout` of each call is the caller's to give."""

    def __init__(self, target):
        # A pool of its own: else a channel to a new server at an address used before may wait for the old connection's back-off.
        self.channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self.checkpoints = checkpoint_service_pb2_grpc.CheckpointServiceStub(self.channel)
        self.transfer = transfer_service_pb2_grpc.TransferServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self.inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def import_file(self, run, data, request_id="", piece=PIECE, timeout=120, **header):
        """ImportCheckpoint of a whole file's bytes."""

        def messages():
            push = {"parent": f"projects/default/runs/{run}", "request_id": request_id, **header.pop("push", {})}
            yield transfer.ImportCheckpointRequest(header={"push": push, **header})
            for start in range(0, len(data), piece):
                yield transfer.ImportCheckpointRequest(offset=start, data=data[start : start + piece])

        return self.transfer.ImportCheckpoint(messages(), timeout=timeout)

    def export_file(self, name, timeout=120, **request):
        """ExportCheckpoint as one bytes object."""
        answers = self.transfer.ExportCheckpoint(transfer.ExportCheckpointRequest(name=name, **request), timeout=timeout)
        return b"".join(answer.data for answer in answers)


def reason_of(error):
    """(code name, reason, metadata) of an RpcError; reason is None when there is not exactly one ErrorInfo."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    infos = []
    if details:
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                infos.append(info)
    if len(infos) != 1:
        return error.code().name, None, {}
    return error.code().name, infos[0].reason, dict(infos[0].metadata)
