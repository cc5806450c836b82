"""Snapshots: what is written to a tensor after one was made is not in it, whoever writes and however soon."""

import subprocess
import sys
import threading

import numpy
import pytest

torch = pytest.importorskip("torch")

from codec_judge import described, restored  # noqa: E402
from codec_support import SOURCE  # noqa: E402
from sconce import _snapshot  # noqa: E402
from sconce._capture import Captured, capture  # noqa: E402
from sconce._snapshot import Snapshot, drop_pooled_memory, take_snapshot  # noqa: E402


@pytest.fixture(autouse=True)
def no_pooled_memory():
    drop_pooled_memory()
    yield
    drop_pooled_memory()


def values(snapshot):
    return restored(Captured(snapshot.manifest_bytes, snapshot.storages))


def test_it_is_the_object_as_it_was():
    value = {"w": torch.arange(100_000.0), "small": torch.ones(3), "array": numpy.arange(5000), "view": torch.arange(9000)[1000:2000], "step": 7}
    captured = capture(value)
    expected = described(restored(captured))
    with Snapshot(captured) as snapshot:
        assert snapshot.manifest_bytes == captured.manifest_bytes and len(snapshot.storages) == len(captured.storages)
        assert all(storage.readonly for storage in snapshot.storages) and snapshot.storages[0] == captured.storages[0]
        for tensor in (value["w"], value["small"], value["view"]):
            tensor.fill_(-1)
        value["array"][:] = -1
        assert described(values(snapshot)) == expected


@pytest.mark.parametrize("make", [lambda value: Snapshot(capture(value)), take_snapshot], ids=["captured", "late"])
@pytest.mark.parametrize("sizes", [[1 << 20] * 40, [300] * 3000, [40 << 20, 5, 1 << 22]], ids=["medium", "small", "large"])
def test_in_place_steps_never_leak_into_it(sizes, make):
    """An optimizer that writes all the time but between two signals: each snapshot must be of one step, whole."""
    tensors = [torch.zeros(size // 4 + 300, dtype=torch.int32) for size in sizes]
    stop, taken, go_on = threading.Event(), threading.Event(), threading.Event()
    failures = []

    def train():
        step = 0
        while not stop.is_set():
            step += 1
            for tensor in tensors:
                tensor.fill_(step)
            taken.set()  # the step is whole: a snapshot may be made
            go_on.wait()
            go_on.clear()

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(6):
            taken.wait()
            taken.clear()
            step = int(tensors[0][0])
            snapshot = make({str(i): tensor for i, tensor in enumerate(tensors)})
            go_on.set()  # the next step writes to every tensor while the snapshot is read
            for number, storage in enumerate(snapshot.storages):
                read = numpy.frombuffer(storage, "<i4")
                if read.min() != step or read.max() != step:
                    failures.append((step, number, int(read.min()), int(read.max())))
                del read
            snapshot.release()
    finally:
        stop.set()
        go_on.set()
        trainer.join()
    assert not failures


@pytest.mark.parametrize("make", [lambda value: Snapshot(capture(value)), take_snapshot], ids=["captured", "late"])
def test_memory_is_used_again(make):
    value = torch.ones(100_000)
    first = make(value)
    address = numpy.frombuffer(first.storages[0], numpy.uint8).ctypes.data
    first.release()
    assert not first.storages
    second = make(value)
    third = make(value)
    assert numpy.frombuffer(second.storages[0], numpy.uint8).ctypes.data == address
    assert numpy.frombuffer(third.storages[0], numpy.uint8).ctypes.data != address
    second.release()
    second.release()  # which does nothing


def test_memory_that_somebody_still_reads_is_not_used_again():
    captured = capture(torch.ones(100_000))
    first = Snapshot(captured)
    kept = first.storages[0][1000:2000][:8]
    first.release()
    tensor = torch.zeros(100_000)
    second = Snapshot(capture(tensor))
    assert kept == b"\x00\x00\x80\x3f" * 2
    assert second.storages[0][1000:1008] == bytes(8)


def test_only_so_much_memory_waits():
    snapshots = [Snapshot(capture(torch.ones(1000 * (i + 1)))) for i in range(5)]
    for snapshot in snapshots:
        snapshot.release()
    assert [arena.shape[0] for arena in _snapshot._pool._arenas] == [16_000, 20_032]


def test_nothing_to_copy():
    with Snapshot(capture({"step": 1})) as snapshot:
        assert not snapshot.storages and values(snapshot) == {"step": 1}


def test_many_threads_copy_as_one(monkeypatch):
    monkeypatch.setattr(_snapshot.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(_snapshot, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(_snapshot, "_SMALL_BYTES", 0)
    monkeypatch.setattr(_snapshot, "_WORTH_A_THREAD", 1000)
    value = {str(i): torch.arange(300 + 17 * i) for i in range(50)}
    captured = capture(value)
    with Snapshot(captured) as snapshot:
        assert all(mine == theirs for mine, theirs in zip(snapshot.storages, captured.storages))


def test_a_child_of_a_fork_copies_too():
    """Without the threads that helped its parent."""
    code = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import numpy
from sconce import _snapshot

_snapshot.os.cpu_count = lambda: 4
_snapshot._PIECE_BYTES = _snapshot._SMALL_BYTES = _snapshot._WORTH_A_THREAD = 1000
value = numpy.arange(100_000)

def copy():
    with _snapshot.Snapshot(_snapshot.capture(value)) as snapshot:
        helpers = [thread for thread in threading.enumerate() if thread.name == "sconce-snapshot"]
        return snapshot.storages[0] == value.tobytes() and len(helpers) == 3

assert copy()
child = os.fork()
if child == 0:
    os._exit(0 if copy() else 3)
assert os.waitpid(child, 0)[1] == 0 and copy()
"""
    subprocess.run([sys.executable, "-c", code, str(SOURCE / "client/python")], check=True, timeout=120)
