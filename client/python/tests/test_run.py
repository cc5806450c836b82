"""Runs, versions, aliases and watches against the real server."""

import dataclasses
import datetime
import math
import pickle
import queue
import threading

import bulk
import pytest
import sconce
from sconce import _upload


@pytest.fixture(scope="module")
def empty(server):
    """The manifest of an empty dict."""
    return bulk.manifest_of(server)


@pytest.fixture
def client(server):
    with sconce.connect(server.target) as connected:
        yield connected


@pytest.fixture
def run(client, run_name):
    return client.run(run_name)


@pytest.fixture
def save(client, run_name, empty):
    """Saves a version with attributes."""
    return lambda **about: _upload.upload(client._connection, bulk.header(run_name, **about), empty, []).checkpoint.version


def test_what_is_said_about_a_version(run, save, run_name):
    before = datetime.datetime.now(datetime.timezone.utc)
    save(step=70, epoch=3, metrics={"loss": 0.5, "odd": math.nan}, labels={"by": "me"})
    info = run.get()
    assert (info.name, info.ref, info.version) == (f"projects/default/runs/{run_name}/checkpoints/1", f"{run_name}@1", 1)
    assert (info.step, info.epoch, info.labels, info.kind, info.state) == (70, 3, {"by": "me"}, "STATE", "COMMITTED")
    assert info.metrics["loss"] == 0.5 and math.isnan(info.metrics["odd"])
    assert info.expire_time is None and not info.pinned and info.aliases == () and info.uploaded_bytes is None
    assert abs(info.create_time - before) < datetime.timedelta(hours=1) and info.create_time.tzinfo is not None
    save()
    assert run.get().step is None and run.get("latest").version == 2 and run.get("best").version == 1 and run.get(1).step == 70
    assert pickle.loads(pickle.dumps(info)).name == info.name


def test_lists_are_of_any_length(run, save):
    for _ in range(5):
        save()
    assert [info.version for info in run.list()] == [5, 4, 3, 2, 1]
    pages = run._connection.pages("sconce.v1.CheckpointService/ListCheckpoints", sconce._proto.v1.ListCheckpointsRequest(parent=run.name, page_size=2))
    assert [len(page.checkpoints) for page in pages] == [2, 2, 1]


def test_lists_of_some_in_another_order(run, save):
    for step, loss in [(10, 0.5), (20, 0.1), (30, 0.3), (40, 0.9)]:
        save(step=step, metrics={"loss": loss})
    save()
    assert [info.version for info in run.list("metrics.loss < 0.6 AND step > 10")] == [3, 2]
    assert [info.version for info in run.list(order_by="metrics.loss")] == [2, 3, 1, 4]
    with pytest.raises(sconce.InvalidArgumentError) as error:
        list(run.list("loss << 3"))
    assert error.value.reason == "FILTER_INVALID"


def test_what_is_not_there(run, save):
    with pytest.raises(KeyError) as error:
        run.get()
    assert error.value.reason == "RUN_NOT_FOUND" and "run" in str(error.value) and not str(error.value).startswith("'")
    save()
    for selector, reason in [(2, "CHECKPOINT_NOT_FOUND"), ("best", "BEST_UNDEFINED"), ("stable", "ALIAS_NOT_FOUND")]:
        with pytest.raises(sconce.NotFoundError) as error:
            run.get(selector)
        assert error.value.reason == reason
    with pytest.raises(ValueError, match="a version is only its number"):
        run.get("v1")


def test_aliases(run, save):
    save()
    save()
    assert run.set_alias("stable") == 2 and run.set_alias("old", 1) == 1
    assert run.aliases() == {"stable": 2, "old": 1} and run.get("stable").aliases == ("stable",)
    assert run.set_alias("stable", "old") == 1
    with pytest.raises(sconce.ConflictError) as error:
        run.set_alias("stable", 2, must_be_new=True)
    assert error.value.reason == "ETAG_MISMATCH"
    run.delete_alias("old")
    assert run.aliases() == {"stable": 1}
    with pytest.raises(sconce.NotFoundError):
        run.delete_alias("old")
    with pytest.raises(ValueError, match="alias .* is not valid"):
        run.set_alias("best")


def test_updates(run, save):
    save(metrics={"loss": 1.0})
    save(metrics={"loss": 2.0}, labels={"a": "b"})
    info = run.update(2, metrics={"accuracy": 0.9}, labels={"c": "d"}, pinned=True, expire=datetime.timedelta(days=2))
    assert info.metrics == {"loss": 2.0, "accuracy": 0.9} and info.labels == {"c": "d"} and info.pinned
    assert datetime.timedelta(days=1) < info.expire_time - datetime.datetime.now(datetime.timezone.utc) < datetime.timedelta(days=3)
    info = run.update(2, expire=None)
    assert info.expire_time is None and info.pinned and info.labels == {"c": "d"}
    info = run.update(2, pinned=False, labels={})
    assert not info.pinned and info.labels == {}
    with pytest.raises(sconce.AlreadyExistsError) as error:
        run.update(2, metrics={"loss": 0.0})
    assert error.value.reason == "METRIC_ALREADY_SET"
    with pytest.raises(sconce.ConflictError):
        run.update(2, pinned=True, etag="other")
    assert run.update(2) == run.get(2)
    with pytest.raises(TypeError, match="expire takes a datetime or a timedelta, not int"):
        run.update(2, expire=3)


def test_deletes(run, save):
    for _ in range(3):
        save()
    run.set_alias("stable", 1)
    with pytest.raises(sconce.PreconditionError) as error:
        run.delete("stable")
    assert error.value.reason == "CHECKPOINT_PROTECTED"
    run.delete(1, force=True)
    run.delete(2)
    run.delete(2, allow_missing=True)
    with pytest.raises(sconce.NotFoundError):
        run.delete(2)
    assert [info.version for info in run.list()] == [3] and run.aliases() == {}


def test_what_is_in_a_version(server, client, tmp_path, run_name):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    weight = torch.zeros(3, 4)
    torch.save({"epoch": 3, "state": {"w": weight, "tied": weight, "long": [0] * 1500}}, path)
    server.sconce("push", path, run_name)
    entries = {entry.path: entry for entry in client.run(run_name).describe()}
    assert entries[""].type == "dict" and entries["/epoch"].value == "3" and len(entries) > 1500
    found = entries["/state/w"]
    assert (found.type, found.dtype, found.shape, found.stride, found.device, found.size_bytes) == ("tensor", "float32", (3, 4), (4, 1), "cpu", 48)
    assert entries["/state/tied"].shares_storage and entries["/state/tied"].storage == found.storage
    assert [entry.path for entry in client.run(run_name).describe(root="/state", include=["/w"]) if entry.type == "tensor"] == ["/w"]


def test_runs_of_projects(client, empty):
    for name in ("projects/p1/runs/a", "projects/p1/runs/b", "projects/p2/runs/a"):
        _upload.upload(client._connection, sconce._proto.v1.PushHeader(parent=name), empty, [])
    assert [run.name for run in client.runs("p1")] == ["projects/p1/runs/a", "projects/p1/runs/b"]
    everywhere = [run.name for run in client.runs("-")]
    assert "projects/p2/runs/a" in everywhere and "projects/p1/runs/b" in everywhere and everywhere == sorted(everywhere)
    info = client.run("p2/a").info()
    assert (info.checkpoint_count, info.latest_version, info.best_version, info.best_metric, info.best_goal) == (1, 1, 0, "loss", "MINIMIZE")


def test_refs_of_runs(client, server):
    assert client.run("p/r").name == client.run("projects/p/runs/r").name == client.run(f"sconce://{server.target}/p/r").name == "projects/p/runs/r"
    assert sconce.connect(server.target, project="vision").run("r").name == "projects/vision/runs/r"
    for ref, sentence in [("r@best", "takes a run"), ("sconce://elsewhere/r", "is at elsewhere:7433, and this client"), ("a/b/c", "does not have the form")]:
        with pytest.raises(sconce.InvalidArgumentError, match=sentence):
            client.run(ref)


class Watching:
    """Takes what a watch yields on a thread of its own."""

    def __init__(self, run, *arguments, **options):
        self._seen = queue.Queue()
        self._thread = threading.Thread(target=self._take, args=(run.watch(*arguments, **options),), daemon=True)
        self._thread.start()

    def _take(self, versions):
        try:
            for version in versions:
                self._seen.put(version.version)
        except sconce.SconceError as error:
            self._seen.put(error)

    def next(self):
        return self._seen.get(timeout=60)


def test_watching_latest(run, save):
    save()
    watching = Watching(run)
    assert watching.next() == 1
    for version in (2, 3, 4):
        save()
    assert [watching.next() for _ in range(3)] == [2, 3, 4]
    run.delete(4)
    assert watching.next() == 3


def test_watching_best_and_an_alias(run, save):
    save(metrics={"loss": 3.0})
    best, stable = Watching(run, "best"), Watching(run, "stable")
    assert best.next() == 1
    save(metrics={"loss": 4.0})
    save(metrics={"loss": 2.0})
    assert best.next() == 3
    run.update(2, metrics={"accuracy": 1.0})
    run.set_alias("stable", 2)
    assert stable.next() == 2
    run.set_alias("stable", 1)
    assert stable.next() == 1
    run.delete_alias("stable")
    run.set_alias("stable", 2)  # what comes and goes before the watch looks is not seen, so it would miss 1
    assert stable.next() == 2
    run.delete(3)
    assert best.next() == 1


def test_a_watch_ends_with_its_loop(run, save):
    save()
    for version in run.watch():
        assert version.version == 1
        break
    with sconce.connect(run._connection.options.target) as other:
        versions = other.run("nothing").watch()
        with pytest.raises(sconce.NotFoundError) as error:
            next(versions)
        assert error.value.reason == "RUN_NOT_FOUND"
    with pytest.raises(sconce.InvalidArgumentError, match="version 1 never changes"):
        run.watch(1)


def test_a_watch_outlives_its_server(new_server):
    server = new_server().start()
    address = server.target
    server.flags = ["--listen", address]
    client = sconce.connect(address)
    empty = bulk.manifest_of(server)
    save = lambda: _upload.upload(client._connection, bulk.header("r"), empty, [])  # noqa: E731
    save()
    watching = Watching(client.run("r"))
    assert watching.next() == 1
    server.kill()
    server.start()
    save()
    assert watching.next() == 2
    server.stop()
    server.start()
    save()
    assert watching.next() == 3


@pytest.mark.parametrize("away", [0.5, 2.0, 4.1, 7.0, 15.0])
def test_a_watch_is_soon_back_when_its_server_is(monkeypatch, away):
    """However the jitter falls: it is late by three tenths of how long the server was away at most, and a tenth of a second. By a clock of the test's own."""
    now = [1000.0]
    monkeypatch.setattr(sconce._retry._random, "uniform", lambda low, high: high)
    monkeypatch.setattr(sconce._watch.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        assert seconds <= 5
        now[0] += seconds

    def answers():
        yield sconce._proto.v1.WatchCheckpointsResponse(revision=1)

    class Away:
        options = dataclasses.replace(sconce._options.resolve("nowhere"), retry=sconce._retry.RetryPolicy(sleep=sleep))
        closed = False

        def stream(self, *_, **__):
            if now[0] < 1000 + away:
                raise sconce.UnavailableError("UNAVAILABLE", "SERVER_UNREACHABLE", {}, "away")
            return answers()

    watching = sconce._watch._Watch(Away(), sconce._refs.parse("r@latest"), 60.0)
    assert next(watching._messages()) is None
    assert now[0] - 1000 - away <= 0.101 + 0.3 * away


def test_a_watch_has_patience_only_for_so_long(new_server):
    server = new_server().start()
    client = sconce.connect(server.target)
    _upload.upload(client._connection, bulk.header("r"), bulk.manifest_of(server), [])
    watching = Watching(client.run("r"), patience=0.0)
    assert watching.next() == 1
    server.kill()
    assert isinstance(watching.next(), sconce.UnavailableError)


def test_a_watch_of_a_run_that_is_deleted(run, save):
    save()
    watching = Watching(run)
    assert watching.next() == 1
    run._connection.call("sconce.v1.CheckpointService/DeleteRun", sconce._proto.v1.DeleteRunRequest(name=run.name, force=True))
    error = watching.next()
    assert isinstance(error, sconce.NotFoundError) and error.reason == "RUN_NOT_FOUND"


def test_a_watch_of_what_is_not_kept_any_more_begins_again(run, save):
    """As when the server was restored from a backup: it has not reached the revision that the watch would go on after."""
    save()
    watching = sconce._watch._Watch(run._connection, sconce._refs.parse(f"{run.name}/checkpoints/latest"), 60.0)
    watching._revision = 1 << 60
    versions = watching.versions()
    assert next(versions).version == 1
    save()
    assert next(versions).version == 2
    versions.close()


def test_a_watch_ends_when_its_client_is_closed(run, save):
    save()
    versions = run.watch()
    assert next(versions).version == 1
    closing = threading.Timer(0.0, run._connection.close)
    closing.start()
    assert list(versions) == []
    closing.join()
