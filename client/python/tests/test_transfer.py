"""Uploads and fetches against the real server."""

import threading

import bulk
import pytest
import sconce
from sconce import _upload
from sconce._chunks import CHUNK_BYTES

MIB = 1 << 20
SIZES = (3 * CHUNK_BYTES + 5, 1025, 2 * CHUNK_BYTES, 7 * MIB, 1500, 1501)


@pytest.fixture(scope="module")
def manifest(server):
    return bulk.manifest_of(server, *SIZES)


@pytest.fixture
def connection(server):
    with_server = bulk.connect(server.target)
    yield with_server
    with_server.close()


def test_what_was_uploaded_is_fetched(connection, manifest, run_name):
    storages = bulk.random_storages(*SIZES)
    seen = []
    outcome = _upload.upload(connection, bulk.header(run_name, step=7), manifest, storages, progress=lambda *at: seen.append(at))
    assert outcome.checkpoint.name == f"projects/default/runs/{run_name}/checkpoints/1" and outcome.checkpoint.step == 7
    assert (outcome.bulk_bytes, outcome.sent_bytes, outcome.reused_bytes) == (sum(SIZES), sum(SIZES), 0)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and seen[-1] == (sum(SIZES), sum(SIZES))
    whole, header = bulk.fetch_all(connection, f"projects/default/runs/{run_name}/checkpoints/latest")
    assert whole == bulk.joined(storages)
    assert header.checkpoint.name == outcome.checkpoint.name


def test_known_bytes_are_not_sent(connection, manifest, run_name):
    storages = bulk.random_storages(*SIZES, seed=1)
    _upload.upload(connection, bulk.header(run_name), manifest, storages)
    again = _upload.upload(connection, bulk.header(run_name), manifest, storages)
    assert (again.checkpoint.version, again.sent_bytes, again.reused_bytes) == (2, 0, sum(SIZES))
    changed = bytearray(storages[2])
    changed[-1] ^= 1
    third = _upload.upload(connection, bulk.header(run_name), manifest, [*storages[:2], memoryview(changed), *storages[3:]])
    assert (third.sent_bytes, third.reused_bytes) == (CHUNK_BYTES, sum(SIZES) - CHUNK_BYTES)
    assert bulk.fetch_all(connection, third.checkpoint.name)[0][sum(SIZES[:2]) :].startswith(changed)


def test_an_upload_of_the_same_id_is_one_version(connection, manifest, run_name):
    storages = bulk.random_storages(*SIZES, seed=2)
    first = _upload.upload(connection, bulk.header(run_name), manifest, storages, upload_id="step-7")
    again = _upload.upload(connection, bulk.header(run_name), manifest, storages, upload_id="step-7")
    assert again.checkpoint.version == first.checkpoint.version == 1 and again.sent_bytes == 0


def test_a_checkpoint_without_bulk(server, connection, run_name):
    small = bulk.manifest_of(server)
    outcome = _upload.upload(connection, bulk.header(run_name), small, [])
    whole, header = bulk.fetch_all(connection, outcome.checkpoint.name)
    assert whole == b"" and header.checkpoint.version == 1 and outcome.bulk_bytes == 0


def test_fewer_bytes_than_the_manifest_says_are_refused(connection, manifest, run_name):
    with pytest.raises(sconce.InternalError, match="the server counts 11 chunks in this part, and here are 10"):
        _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES[:-1]))


def test_a_manifest_that_is_none_is_refused(connection, run_name):
    with pytest.raises(sconce.InvalidArgumentError) as error:
        _upload.upload(connection, bulk.header(run_name), b"\xff" * 100, [])
    assert error.value.reason == "MANIFEST_INVALID"


def test_an_attribute_that_is_no_number_of_a_version(connection, manifest):
    with pytest.raises(sconce.InvalidArgumentError) as error:
        _upload.upload(connection, bulk.header("a/b"), manifest, [])
    assert error.value.reason == "NAME_INVALID"


def test_an_error_of_the_caller_ends_the_upload(connection, manifest, run_name):
    def fail(done, total):
        if done > MIB:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES, seed=3), progress=fail)
    assert not [thread for thread in threading.enumerate() if thread.name == "sconce-dialog"]


@pytest.mark.parametrize("streams", [1, 3])
def test_ranges_at_once(connection, manifest, run_name, streams):
    storages = bulk.random_storages(*SIZES, seed=4)
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, storages)
    assert bulk.fetch_all(connection, outcome.checkpoint.name, streams=streams)[0] == bulk.joined(storages)
    assert not [thread for thread in threading.enumerate() if thread.name == "sconce-fetch"]


def test_a_selection_has_a_bulk_stream_of_its_own(connection, manifest, run_name):
    storages = bulk.random_storages(*SIZES, seed=5)
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, storages)
    whole, _ = bulk.fetch_all(connection, outcome.checkpoint.name, selection={"include": ["/t1", "/t5"]})
    assert whole == bytes(storages[1]) + bytes(storages[5])


def test_buffers_that_do_not_fit(connection, manifest, run_name):
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES))
    with sconce._fetch.begin_fetch(connection, outcome.checkpoint.name) as fetch:
        with pytest.raises(ValueError, match="the buffers hold 5 bytes, and the bulk stream has"):
            fetch.read_into([memoryview(bytearray(5))])


def test_what_is_not_there(connection):
    with pytest.raises(sconce.NotFoundError) as error:
        bulk.fetch_all(connection, "projects/default/runs/nothing/checkpoints/best")
    assert (error.value.reason, error.value.code) == ("RUN_NOT_FOUND", "NOT_FOUND")
