"""Sharded tensors as several parts of one upload, without PyTorch's distributed package."""

import pytest
import sconce
from sconce import _saving, _upload
from sconce._capture import capture
from sconce._fits import connection_of, ref_of
from sconce._shards import Shards

torch = pytest.importorskip("torch")


def upload_parts(run, parts):
    connection = connection_of(run)
    opened = _upload.begin(connection, _saving.About(step=1).header(ref_of(run).run_name), expected_parts=len(parts))
    for number, part in enumerate(parts):
        captured = capture(part)
        _upload.upload_part(connection, opened.name, number, captured.manifest_bytes, captured.storages)
    return _upload.commit(connection, opened.name)


def test_the_parts_shards_are_one_tensor(run):
    whole = torch.rand(100, 30)
    rows = [{"m": {"w": Shards((100, 30), [((start, 0), whole[start : start + 50])])}} for start in (0, 50)]
    rows[0]["m"]["b"] = torch.ones(3)
    upload_parts(run, rows)
    loaded = run.load()
    assert torch.equal(loaded["m"]["w"], whole) and torch.equal(loaded["m"]["b"], torch.ones(3))


def test_a_missing_shard_is_told(run):
    parts = [{"w": Shards((100, 30), [((0, 0), torch.rand(50, 30))])}, {}]
    with pytest.raises(sconce.PreconditionError, match=r"/w.*\[50:100, 0:30\] is in no part"):
        upload_parts(run, parts)


def test_only_strided_shards_are_stored():
    with pytest.raises(sconce.InvalidArgumentError, match="at /w: .*only shards that are plain"):
        capture({"w": Shards((10,), [((0,), torch.eye(10).to_sparse())])})
