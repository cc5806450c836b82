"""Transfers over connections and servers that break."""

import dataclasses
import threading
import time

import between
import bulk
import grpc
import pytest
import sconce
from sconce import _fetch, _upload
from sconce._chunks import CHUNK_BYTES

MIB = 1 << 20
SIZES = (20 * MIB + 7, 3000, 30 * MIB)
UPLOAD = "/sconce.v1.TransferService/UploadChunks"
FETCH = "/sconce.v1.TransferService/FetchCheckpoint"


@pytest.fixture(scope="module")
def manifest(server):
    return bulk.manifest_of(server, *SIZES)


@pytest.fixture(autouse=True)
def every_call_ends():
    """Also of those that failed; a call that is not seen to end would forbid the children of a fork to use gRPC."""
    yield
    assert sconce._channel.calls_under_way._count == 0


@pytest.fixture
def proxy(server):
    with_harm = between.Between(server.target)
    yield with_harm
    with_harm.close()


@pytest.fixture
def connection(proxy):
    """Through the proxy, and without waits that only cost time."""
    through = bulk.connect(proxy.target)
    quick = sconce._retry.RetryPolicy(attempts=3, initial_backoff=0.001)
    through.options = dataclasses.replace(through.options, retry=quick, stream_attempts=3)
    yield through
    through.close()


@pytest.fixture
def stored(server, manifest, run_name):
    """The bytes and the name of a version."""
    storages = bulk.random_storages(*SIZES)
    outcome = _upload.upload(bulk.connect(server.target), bulk.header(run_name), manifest, storages)
    return bulk.joined(storages), outcome.checkpoint.name


class EveryNth:
    """Cuts each stream of a method when so many answers of it came through."""

    def __init__(self, method, count, times=1000):
        self.method, self.count, self.left = method, count, times

    def __call__(self, method, index, message):
        if method == self.method and index == self.count and self.left:
            self.left -= 1
            raise between.Cut
        return message


def test_a_fetch_goes_on_after_each_break(connection, proxy, stored):
    whole, name = stored
    proxy.on_answer = EveryNth(FETCH, 5)
    assert bulk.fetch_all(connection, name)[0] == whole
    assert 1000 - proxy.on_answer.left >= 50 * MIB // (5 * 2 * MIB)  # more often than it is tried without progress
    proxy.on_answer = EveryNth(FETCH, 5)
    assert bulk.fetch_all(connection, name, streams=2)[0] == whole


def test_a_break_within_the_manifest(connection, proxy, stored):
    proxy.on_answer = EveryNth(FETCH, 1, times=2)
    assert bulk.fetch_all(connection, stored[1])[0] == stored[0]


def test_without_progress_it_gives_up(connection, proxy, stored):
    proxy.on_answer = EveryNth(FETCH, 0)
    with pytest.raises(sconce.UnavailableError, match="cut in between"):
        bulk.fetch_all(connection, stored[1])
    assert 1000 - proxy.on_answer.left == 3


def test_damage_on_the_way_is_found_and_repaired(connection, proxy, stored):
    whole, name = stored
    damaged = []

    def damage(method, index, message):
        if method == FETCH and index == 7 and len(damaged) < 2:
            damaged.append(index)
            return message[:-1] + bytes([message[-1] ^ 0x10])
        return message

    proxy.on_answer = damage
    assert bulk.fetch_all(connection, name)[0] == whole
    assert len(damaged) == 2


def test_damage_again_and_again_is_an_error(connection, proxy, stored):
    proxy.on_answer = lambda method, index, message: message[:-1] + bytes([message[-1] ^ 1]) if len(message) > MIB else message
    with pytest.raises(sconce.UnavailableError, match="came in damaged"):
        bulk.fetch_all(connection, stored[1])


def test_a_message_that_is_none(connection, proxy, stored):
    proxy.on_answer = lambda method, index, message: message[:100] if index == 3 else message
    with pytest.raises(sconce.InternalError, match="cannot be read"):
        bulk.fetch_all(connection, stored[1])


def test_a_stream_that_ends_early(connection, proxy, stored):
    proxy.on_answer = lambda method, index, message: b"" if index >= 3 else message
    with pytest.raises(sconce.InternalError, match="ends at byte"):
        bulk.fetch_all(connection, stored[1])


def test_a_plan_that_changed_meanwhile(connection, proxy, stored):
    """The server refuses a plan that it did not make, as after an upgrade that answers otherwise."""

    def change(method, index, message):
        if method == FETCH and index == 0:
            answer = sconce._proto.v1.FetchCheckpointResponse.FromString(message)
            answer.header.plan = answer.header.plan[:-1] + ("0" if answer.header.plan[-1] != "0" else "1")
            return answer.SerializeToString()
        if method == FETCH and index == 5:
            raise between.Cut
        return message

    proxy.on_answer = change
    with pytest.raises(sconce.ConflictError) as error:
        bulk.fetch_all(connection, stored[1])
    assert error.value.reason == "PLAN_CHANGED"


def test_a_version_that_moves_stays_the_one_that_was_begun(server, connection, proxy, manifest, run_name, stored):
    whole, name = stored
    with _fetch.begin_fetch(connection, name.rpartition("/")[0] + "/latest") as fetch:
        _upload.upload(bulk.connect(server.target), bulk.header(run_name), manifest, bulk.random_storages(*SIZES, seed=9))
        proxy.on_answer = EveryNth(FETCH, 4)
        buffer = bytearray(fetch.header.bulk_bytes)
        fetch.read_into([memoryview(buffer)])
    assert buffer == whole


def test_a_fetch_that_stalls(connection, proxy, stored):
    go_on = threading.Event()
    stalls = []

    def stall(method, index, message):
        if method == FETCH and index == 4 and len(stalls) < 2:
            stalls.append(index)
            go_on.wait(60)
        return message

    proxy.on_answer = stall
    try:
        assert bulk.fetch_all(connection, stored[1], stall_timeout=0.5)[0] == stored[0]
    finally:
        go_on.set()
    assert len(stalls) == 2


def test_an_upload_goes_on_after_each_break(server, connection, proxy, run_name):
    """Breaks that each come after some chunks were settled, where a second failure without progress would be the last."""
    sizes = (300 * MIB,)  # of zeros, which the server has: a stream settles what is in its window at most
    manifest = bulk.manifest_of(server, *sizes)
    have = sconce._proto.enum_number("sconce.v1.UploadChunksResponse.Verdict.Action", "HAVE")
    cuts = []
    forward = proxy.forward

    def cut_after_progress(method, messages, context):
        for message in forward(method, messages, context):
            yield message
            verdicts = sconce._proto.v1.UploadChunksResponse.FromString(message).verdicts if method == UPLOAD else []
            if len(cuts) < 3 and any(verdict.action == have for verdict in verdicts):
                cuts.append(verdicts[0].chunk)
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut in between")

    proxy.forward = cut_after_progress
    connection.options = dataclasses.replace(connection.options, stream_attempts=2)
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, [memoryview(bytes(sizes[0]))])
    assert len(cuts) == 3 and outcome.checkpoint.version == 1 and outcome.sent_bytes == 0


def test_an_upload_that_stalls(connection, proxy, manifest, run_name):
    go_on = threading.Event()
    stalls = []

    def stall(method, index, message):
        if method == UPLOAD and index == 1 and not stalls:
            stalls.append(index)
            go_on.wait(60)
        return message

    proxy.on_answer = stall
    try:
        outcome = _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES, seed=12), stall_timeout=1)
    finally:
        go_on.set()
    assert stalls and outcome.checkpoint.version == 1


def test_an_upload_that_only_stalls_is_an_error(connection, proxy, manifest, run_name):
    go_on = threading.Event()
    proxy.on_answer = lambda method, index, message: (go_on.wait(60), message)[1] if method == UPLOAD else message
    try:
        with pytest.raises(sconce.DeadlineError, match="nothing moved on the stream for 0.3 s"):
            _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES, seed=13), stall_timeout=0.3)
    finally:
        go_on.set()


def test_a_commit_whose_answer_is_lost(connection, proxy, manifest, run_name):
    lost = []

    def lose(method, index, message):
        if method.endswith("/CommitUpload") and not lost:
            lost.append(message)
            raise between.Cut
        return message

    proxy.on_answer = lose
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, bulk.random_storages(*SIZES, seed=14))
    assert lost and outcome.checkpoint.version == 1


def restart(server, address):
    """kill -9, and a new server on the same address."""
    server.kill()
    server.flags = ["--listen", address]
    server.start()


def test_a_killed_server_that_comes_back_costs_nothing_but_time(new_server):
    """kill -9 in the middle, and a new server on the same address: one version, and what was durable is not sent again."""
    sizes = (200 * MIB, 100 * MIB)
    server = new_server().start()
    manifest = bulk.manifest_of(server, *sizes)
    kills = []

    def kill_on_the_way(done, total):
        if len(kills) < 2 and done >= (len(kills) + 1) * total // 3:
            kills.append(done)
            restart(server, connection.options.target)

    connection, storages = bulk.connect(server.target), bulk.random_storages(*sizes)
    outcome = _upload.upload(connection, bulk.header("r"), manifest, storages, progress=kill_on_the_way)
    assert len(kills) == 2 and outcome.checkpoint.name.endswith("/r/checkpoints/1")
    assert sum(sizes) <= outcome.sent_bytes < 2 * sum(sizes)
    assert bulk.fetch_all(connection, outcome.checkpoint.name)[0] == bulk.joined(storages)


def test_a_killed_server_while_a_version_is_fetched(new_server):
    sizes = (100 * MIB,)
    server = new_server().start()
    connection = bulk.connect(server.target)
    storages = bulk.random_storages(*sizes)
    _upload.upload(connection, bulk.header("r"), bulk.manifest_of(server, *sizes), storages)
    kills = []

    def kill_on_the_way(done, total):
        if not kills and done >= total // 2:
            kills.append(done)
            restart(server, connection.options.target)

    with _fetch.begin_fetch(connection, "projects/default/runs/r/checkpoints/latest") as fetch:
        buffer = bytearray(sizes[0])
        fetch.read_into([memoryview(buffer)], kill_on_the_way)
    assert kills and buffer == storages[0]


def test_a_process_that_died_is_followed_by_another_with_the_same_upload(server, manifest, run_name):
    """What the first one made durable is not sent by the second."""

    class Died(BaseException):
        pass

    def die(done, total):
        if done >= 9 * CHUNK_BYTES:
            raise Died

    storages = bulk.random_storages(*SIZES, seed=15)
    connection = bulk.connect(server.target)
    with pytest.raises(Died):
        _upload.upload(bulk.connect(server.target), bulk.header(run_name), manifest, storages, progress=die, upload_id="step-1")
    assert wait_for_durable_chunks(connection, f"projects/default/runs/{run_name}/uploads/step-1") > 0
    outcome = _upload.upload(connection, bulk.header(run_name), manifest, storages, upload_id="step-1")
    assert outcome.checkpoint.version == 1 and outcome.reused_bytes > 0 and outcome.sent_bytes + outcome.reused_bytes == sum(SIZES)


def wait_for_durable_chunks(connection, name):
    """The server finds out by itself that a client is gone, and then keeps what it got."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        upload = connection.call("sconce.v1.TransferService/GetUpload", sconce._proto.v1.GetUploadRequest(name=name))
        durable = sum(each.last - each.first + 1 for part in upload.parts for each in part.durable_chunks)
        if durable:
            return durable
        time.sleep(0.01)
    return 0


def test_ranks_make_one_version(server, connection, run_name):
    """Each with a part of the tree of its own; the one that is last commits."""
    rank_sizes = [(5 * MIB,), (6 * MIB, 2000)]
    manifests = []
    for rank, sizes in enumerate(rank_sizes):
        manifests.append(bulk.manifest_of(server, *sizes, first_key=10 * rank))
    opened = [_upload.begin(connection, bulk.header(run_name), upload_id="step-9", expected_parts=2) for _ in range(2)]
    assert opened[0].name == opened[1].name
    storages = [bulk.random_storages(*sizes, seed=20 + rank) for rank, sizes in enumerate(rank_sizes)]
    _upload.upload_part(connection, opened[0].name, 0, manifests[0], storages[0])
    with pytest.raises(sconce.InvalidArgumentError) as error:
        _upload.commit(connection, opened[0].name)
    assert error.value.reason == "UPLOAD_INCOMPLETE"
    last = _upload.upload(connection, bulk.header(run_name), manifests[1], storages[1], part=1, upload_id="step-9", expected_parts=2)
    assert _upload.commit(connection, opened[0].name).version == last.checkpoint.version == 1
    parts = [bulk.joined(each) for each in storages]
    assert bulk.fetch_all(connection, last.checkpoint.name)[0] in (parts[0] + parts[1], parts[1] + parts[0])
