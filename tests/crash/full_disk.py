#!/usr/bin/env python3
"""The real server on a small file system that is full again and again, at another byte each time.

    full_disk.py [--rounds N] [--seed N]      default: SCONCE_FULL_DISKS from the environment, else 40 rounds

The file system is a tmpfs of its own, so this needs root; otherwise it says so and is skipped. In each round a ballast file leaves a
few pages free (from none to some hundred), so that the limit strikes in a spool, in a blob's data or footer, in the catalog's log, or
in a table that RocksDB writes. The server keeps no reserve: the point is to run into the wall.

* Pushes end with RESOURCE_EXHAUSTED and DISK_FULL, never with anything else, and the server stays up.
* Reads go on, and so do pushes and deletions as soon as there is space again, without a restart.
* Deleting and collecting gives space back.
* Nothing that was acknowledged is lost: not then, not after kill -9, not after a restart.
* With a reserve, deletions and collections work while pushes are refused.
* In the end the data directory is exactly what its versions need (tests/tools/audit_data_dir.cc).
"""

import argparse
import collections
import errno
import io
import itertools
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import grpc  # noqa: E402
import sconced  # noqa: E402
import stubs  # noqa: E402
import torch  # noqa: E402
from sconce.v1 import admin_service_pb2  # noqa: E402

SKIPPED = 77
SIZE = 48 << 20
PAGE = 4096
THREADS = 3


class Store:
    """A server on the small disk, and what it acknowledged."""

    def __init__(self, disk, log, min_free):
        self.disk = disk
        self.server = sconced.Server(disk / "data", flags=["--min-free-bytes", str(min_free)], log=log)
        self.server.start()
        self.client = self.server.stubs()
        self.there = {}  # version -> number of its content
        self.numbers = itertools.count(1)
        self.counts = collections.Counter()

    @staticmethod
    def content(number):
        generator = torch.Generator().manual_seed(number)
        sizes = (300, 9_000, 40_000)[: 1 + number % 3]
        return {"number": number, "tensors": [torch.rand(size, generator=generator) for size in sizes]}

    def push(self):
        """True when it was acknowledged; False when the disk is full."""
        number, file = next(self.numbers), io.BytesIO()
        torch.save(self.content(number), file)
        try:
            made = self.client.import_file("r", file.getvalue(), timeout=60)
        except grpc.RpcError as error:
            assert stubs.reason_of(error)[:2] == ("RESOURCE_EXHAUSTED", "DISK_FULL"), error
            self.counts["refused"] += 1
            return False
        self.there[made.version] = number
        self.counts["pushed"] += 1
        return True

    def fill(self, most):
        """Pushes until it is refused."""
        for _ in range(most):
            if not self.push():
                return
        raise AssertionError("the disk never was full")

    def fill_together(self, most):
        """Several push at once, one changes the catalog alone, and a thief takes all space and gives it back, again and again: so the
        disk is also full just after the server saw that it is not."""
        over = threading.Event()
        with futures.ThreadPoolExecutor(THREADS + 2) as pool:
            thief = pool.submit(self.steal, over)
            try:
                for pushing in [pool.submit(self.fill, most) for _ in range(THREADS)] + [pool.submit(self.label, most)]:
                    pushing.result()
            finally:
                over.set()
            thief.result()

    def steal(self, over):
        with open(self.disk / "loot", "wb") as loot:
            while not over.is_set():
                try:
                    os.posix_fallocate(loot.fileno(), 0, max(PAGE, self.free()))
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error
                loot.truncate(0)
        (self.disk / "loot").unlink()

    def label(self, most):
        for number in range(most):
            run = {"name": "projects/default/runs/r", "labels": {f"l{i}": f"{number} " * 40 for i in range(16)}}
            try:
                self.client.checkpoints.UpdateRun(stubs.checkpoints.UpdateRunRequest(run=run), timeout=60)
            except grpc.RpcError as error:
                assert stubs.reason_of(error)[:2] == ("RESOURCE_EXHAUSTED", "DISK_FULL"), error
                self.counts["labels refused"] += 1

    def check(self, versions):
        for version in versions:
            data = self.client.export_file(f"projects/default/runs/r/checkpoints/{version}", timeout=60)
            got, pushed = torch.load(io.BytesIO(data)), self.content(self.there[version])
            assert got["number"] == pushed["number"] and all(map(torch.equal, got["tensors"], pushed["tensors"])), f"version {version} has other content"

    def listed(self):
        request = stubs.checkpoints.ListCheckpointsRequest(parent="projects/default/runs/r", page_size=1000)
        return {one.version for one in self.client.checkpoints.ListCheckpoints(request, timeout=60).checkpoints}

    def delete(self, version):
        name = f"projects/default/runs/r/checkpoints/{version}"
        self.client.checkpoints.DeleteCheckpoint(stubs.checkpoints.DeleteCheckpointRequest(name=name), timeout=60)
        del self.there[version]
        self.counts["deleted"] += 1

    def collect(self):
        self.client.admin.CollectGarbage(admin_service_pb2.CollectGarbageRequest(), timeout=60)

    def free(self):
        info = os.statvfs(self.disk)
        return info.f_bavail * info.f_frsize

    def leave(self, pages):
        """Takes all space but so many pages."""
        with open(self.disk / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(PAGE, self.free() - pages * PAGE))

    def give_back(self):
        (self.disk / "ballast").unlink()

    def restart(self, kill):
        self.client.close()
        if kill:
            self.server.kill()
        else:
            assert self.server.stop() == 0
        self.server.start()
        self.client = self.server.stubs()

    def audit(self):
        self.collect()
        self.client.close()
        assert self.server.stop() == 0
        found = subprocess.run([sconced.BIN.parent / "tests/audit_data_dir", self.server.data_dir], capture_output=True, text=True, check=False, timeout=300)
        assert found.returncode == 0, f"the store is not what its versions need:\n{found.stdout}{found.stderr}"


def run_into_the_wall(disk, log, rounds, rng):
    """Without a reserve: the disk is full at another page each round."""
    store = Store(disk, log, min_free=0)
    try:
        assert store.push()
        for number in range(rounds):
            store.leave(rng.choice([0, 1, 2, 3, rng.randrange(20), rng.randrange(200)]))
            store.fill_together(40)
            store.push()  # the server is not upset by the first failure
            store.check(rng.sample(sorted(store.there), min(3, len(store.there))))
            if rng.random() < 0.3:
                try:
                    store.delete(victim := rng.choice(sorted(store.there)))
                except grpc.RpcError as error:
                    assert stubs.reason_of(error)[:2] == ("RESOURCE_EXHAUSTED", "DISK_FULL"), error
                    assert victim in store.there
            if rng.random() < 0.2:
                store.server.kill()
                store.give_back()
                store.server.start()
                store.client.close()
                store.client = store.server.stubs()
            else:
                store.give_back()
            assert store.push(), "there is space again"
            assert store.listed() == set(store.there)
            if len(store.there) > 30:
                before = store.free()
                for version in sorted(store.there)[:20]:
                    store.delete(version)
                store.collect()
                assert store.free() > before, "deleting gave nothing back"
            if number % 10 == 9:
                store.restart(kill=number % 20 == 9)
                store.check(store.there)
        store.check(store.there)
        store.audit()
        store.counts["refused in the catalog"] = log.read_text(encoding="utf-8", errors="replace").count("catalog_write_failed")
        return store.counts
    except BaseException:
        print(f"full_disk: FAILED\n{store.server.log_tail()}", flush=True)
        raise
    finally:
        if store.server.process.poll() is None:
            store.server.kill()


def keep_a_reserve(disk, log, _rounds, _rng):
    """With one: what gives space back works while pushes are refused, and makes room for them."""
    store = Store(disk, log, min_free=8 << 20)
    try:
        store.fill(2000)
        store.check(list(store.there)[-5:])
        store.restart(kill=True)
        store.fill(100)  # the logs that a restart drops may have left room for a few
        for version in sorted(store.there)[:10]:
            store.delete(version)
        store.collect()
        assert store.push(), "deleting gave nothing back"
        store.check(store.there)
        store.audit()
        return store.counts
    except BaseException:
        print(f"full_disk: FAILED\n{store.server.log_tail()}", flush=True)
        raise
    finally:
        if store.server.process.poll() is None:
            store.server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("SCONCE_FULL_DISKS", "40")))
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    for test in (run_into_the_wall, keep_a_reserve):
        with tempfile.TemporaryDirectory(prefix="sconce-full-") as folder:
            disk = pathlib.Path(folder) / "disk"
            disk.mkdir()
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], capture_output=True, text=True, check=False)
            if mounted.returncode != 0:
                print(f"full_disk: skipped, a small file system cannot be mounted here: {mounted.stderr.strip()}")
                sys.exit(SKIPPED)
            try:
                counts = test(disk, pathlib.Path(folder) / "log", options.rounds, random.Random(seed))
            finally:
                subprocess.run(["umount", disk], check=True)
            print(f"full_disk: {test.__name__}, --seed {seed}: {', '.join(f'{number} {what}' for what, number in counts.items())}", flush=True)


if __name__ == "__main__":
    main()
