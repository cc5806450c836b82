"""What the tests of the codec share: files by real PyTorch releases, and the calls that move manifests."""

import os
import pathlib
import sys

import grpc

SOURCE = pathlib.Path(__file__).resolve().parents[4]
sys.path.insert(0, str(SOURCE / "client/python"))
sys.path.insert(0, str(SOURCE / "tests/support"))

from sconce import _proto  # noqa: E402  pylint: disable=wrong-import-position

DATA = SOURCE / "tests/data"
PIECE = 1 << 20


def shared_fixtures():
    """The folder of files by real PyTorch releases that developers and CI have beside the checkout, or None on a user's clone."""
    places = [pathlib.Path(os.environ["SCONCE_SHARED_DIR"])] if os.environ.get("SCONCE_SHARED_DIR") else []
    for place in (*places, SOURCE.parent / "shared"):
        if (place / "fixtures").is_dir():
            return place / "fixtures"
    return None


def fixture_files():
    """Every file by torch.save that there is: the repository's, and the shared ones."""
    folders = [DATA, *sorted((DATA / "values").glob("torch-*")), DATA / "objects"]
    shared = shared_fixtures()
    if shared is not None:
        folders += sorted(shared.glob("torch-*"))
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".pt", ".pth", ".tar") and path.is_file()]


def name_of(path):
    return str(path.relative_to(path.parents[2]))


class Transfer:
    """The calls of TransferService that these tests make, over one channel."""

    def __init__(self, target):
        self.channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])

    def call(self, kind, name, request, timeout=120):
        method = _proto.method(f"sconce.v1.TransferService/{name}")
        return getattr(self.channel, kind)(method.path, request_serializer=method.encode, response_deserializer=method.decode)(request, timeout=timeout)

    def push(self, run, manifest, storages=()):
        """PushCheckpoint of a manifest and its bulk storages; the name of the version."""
        message = _proto.v1.PushCheckpointRequest

        def messages():
            yield message(header={"parent": f"projects/default/runs/{run}"})
            for start in range(0, len(manifest), PIECE):
                yield message(manifest=manifest[start : start + PIECE])
            for storage in storages:
                for start in range(0, len(storage), PIECE):
                    yield message(data=bytes(storage[start : start + PIECE]))

        return self.call("stream_unary", "PushCheckpoint", messages()).name

    def import_file(self, run, data):
        """ImportCheckpoint of a file's bytes; the name of the version."""
        message = _proto.v1.ImportCheckpointRequest

        def messages():
            yield message(header={"push": {"parent": f"projects/default/runs/{run}"}})
            for start in range(0, len(data), PIECE):
                yield message(data=data[start : start + PIECE])

        return self.call("stream_unary", "ImportCheckpoint", messages()).name

    def fetch(self, name, **request):
        """FetchCheckpoint: (manifest, bulk stream)."""
        manifest, bulk = [], []
        for answer in self.call("unary_stream", "FetchCheckpoint", _proto.v1.FetchCheckpointRequest(name=name, **request)):
            manifest.append(answer.manifest)
            bulk.append(answer.data)
        return b"".join(manifest), b"".join(bulk)

    def export(self, name):
        """ExportCheckpoint: a .pt file's bytes."""
        return b"".join(a.data for a in self.call("unary_stream", "ExportCheckpoint", _proto.v1.ExportCheckpointRequest(name=name)))
