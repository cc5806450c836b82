#!/usr/bin/env python3
"""Kills the real server with SIGKILL at random moments under concurrent pushes, and holds it to its promises after each restart.

    kill9.py [--kills N] [--seed N]          default: SCONCE_KILLS from the environment, else 100 kills

* A push that was acknowledged is there, whole, under the version that was answered: its bytes are compared.
* A push that was not acknowledged is there at most once, and then whole. Its retry with the same request_id answers that version,
  or makes it now; afterwards it is there exactly once.
* Nothing else is there: every listed version belongs to a push, and numbers are never used twice.

Some pushes go through ImportCheckpoint from threads here, some through `sconce push` in processes of their own; sizes go from a few
hundred bytes to some MiB, some content repeats so that chunks are shared, and now and then a version is deleted meanwhile.
"""

import argparse
import hashlib
import io
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import grpc  # noqa: E402
import sconced  # noqa: E402
import stubs  # noqa: E402
import torch  # noqa: E402

RUNS = [f"run{i}" for i in range(3)]
THREADS = 3


class Push:
    """One thing that a client wants stored, and what it knows about it."""

    def __init__(self, run, file, digest):
        self.run, self.file, self.digest = run, file, digest
        self.request_id = str(uuid.uuid4())
        self.version = None  # as acknowledged
        self.by_tool = False

    @property
    def parent(self):
        return f"projects/default/runs/{self.run}"

    def send(self, client, timeout):
        """Through plain RPC. The label tells to which push a version belongs."""
        checkpoint = {"labels": {"push": self.request_id}}
        made = client.import_file(self.run, self.file, self.request_id, push={"checkpoint": checkpoint}, timeout=timeout, piece=300_000)
        self.version = made.version

    def send_by_tool(self, server, folder, started=lambda process: None):
        """Through `sconce push`, a process of its own, which `started` gets. True when it was acknowledged."""
        self.by_tool = True
        path = folder / f"{self.request_id}.pt"
        path.write_bytes(self.file)
        command = [sconced.BIN / "sconce", "push", path, self.run, "--request-id", self.request_id, "--label", f"push={self.request_id}", "-o", "name"]
        environment = {**os.environ, "SCONCE_TARGET": server.target}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            started(process)
            said, _ = process.communicate(timeout=120)
        path.unlink()
        if process.returncode == 0:
            self.version = int(said.strip().rpartition("/")[2])
        return process.returncode == 0


def content_digest(data):
    """Of what a checkpoint holds; files that hold the same may differ."""
    tree = torch.load(io.BytesIO(data))
    digest = hashlib.sha256(repr((tree["number"], [t.shape for t in tree["tensors"]])).encode())
    for tensor in tree["tensors"]:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


class Contents:
    """Makes checkpoints: mostly new bytes, sometimes with tensors of an earlier one."""

    def __init__(self, seed):
        self.random, self.lock, self.counter = random.Random(seed), threading.Lock(), itertools.count()
        self.shared = [torch.rand(1_500_000, generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def make(self):
        with self.lock:
            number = next(self.counter)
            sizes = [int(10 ** self.random.uniform(0.5, 6)) for _ in range(self.random.randint(1, 4))]
            tensors = [torch.rand(size, generator=torch.Generator().manual_seed(number * 10 + i)) for i, size in enumerate(sizes)]
            if self.random.random() < 0.3:
                tensors.append(self.random.choice(self.shared))
            run = self.random.choice(RUNS)
        file = io.BytesIO()
        torch.save({"number": number, "loss": 1 / (number + 1), "tensors": tensors}, file)
        return Push(run, file.getvalue(), content_digest(file.getvalue()))


class Story:
    """All pushes so far, and the server they go to."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.contents = Contents(seed)
        self.server = sconced.Server(folder / "data")
        self.acknowledged = {}  # (run, version) -> Push
        self.deleted = set()  # acknowledged deletions
        self.doubtful_deletions = set()  # asked for, not acknowledged
        self.retried = self.found_whole = 0
        self.tool = None  # the `sconce push` that runs, if one does
        self.lock = threading.Lock()

    def pusher(self, stop, doubtful, by_tool):
        """Pushes until the server is gone. A push whose answer did not come is `doubtful`."""
        client = self.server.stubs()
        try:
            while not stop.is_set():
                push = self.contents.make()
                try:
                    if by_tool:
                        acknowledged = push.send_by_tool(self.server, self.folder, lambda process: self.tool_started(process, stop))
                    else:
                        push.send(client, timeout=20)
                        acknowledged = True
                except grpc.RpcError:
                    acknowledged = False
                with self.lock:
                    if not acknowledged:
                        doubtful.append(push)
                        return
                    self.remember(push)
                if self.random.random() < 0.1:
                    self.delete_one(client)
        except grpc.RpcError:
            pass
        finally:
            client.close()

    def tool_started(self, process, stop):
        self.tool = process
        if stop.is_set():
            process.kill()

    def remember(self, push):
        key = (push.run, push.version)
        assert key not in self.acknowledged or self.acknowledged[key] is push, f"{key} was given to two pushes"
        self.acknowledged[key] = push

    def delete_one(self, client):
        with self.lock:
            there = [key for key in self.acknowledged if key not in self.deleted and key not in self.doubtful_deletions]
            if len(there) < 10:
                return
            key = self.random.choice(there)
            self.doubtful_deletions.add(key)
        name = f"projects/default/runs/{key[0]}/checkpoints/{key[1]}"
        client.checkpoints.DeleteCheckpoint(stubs.checkpoints.DeleteCheckpointRequest(name=name), timeout=20)
        with self.lock:
            self.doubtful_deletions.discard(key)
            self.deleted.add(key)

    def kill_once(self, longest):
        """Starts the server, pushes, kills it at a random moment, and returns the pushes that were not acknowledged."""
        self.server.start()
        stop, doubtful = threading.Event(), []
        threads = [threading.Thread(target=self.pusher, args=(stop, doubtful, i == 0)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(self.random.uniform(0, longest))  # the moment is the experiment
        self.server.kill()
        stop.set()
        if self.tool is not None:
            self.tool.kill()  # else it would try again for a while, as it should
            self.tool = None
        for thread in threads:
            thread.join()
        return doubtful

    def listed(self, client):
        """{(run, version): Checkpoint} of all there is."""
        found = {}
        for run in RUNS:
            token = ""
            while True:
                request = stubs.checkpoints.ListCheckpointsRequest(parent=f"projects/default/runs/{run}", page_size=1000, page_token=token)
                try:
                    page = client.checkpoints.ListCheckpoints(request, timeout=30)
                except grpc.RpcError as error:
                    assert stubs.reason_of(error)[1] == "RUN_NOT_FOUND", error
                    break
                for one in page.checkpoints:
                    assert (run, one.version) not in found
                    found[run, one.version] = one
                token = page.next_page_token
                if not token:
                    break
        return found

    def check_bytes(self, client, push, name):
        assert content_digest(client.export_file(name)) == push.digest, f"{name} has other content than was pushed"

    def check(self, doubtful, recent, thorough=False):
        """After a restart: the promises of the module's comment."""
        client = self.server.stubs()
        found = self.listed(client)
        for key, push in list(self.acknowledged.items()):
            if key in self.deleted:
                assert key not in found, f"{key} was deleted and is back"
            elif key in self.doubtful_deletions:
                self.doubtful_deletions.discard(key)
                if key not in found:
                    self.deleted.add(key)
            else:
                assert key in found, f"{key} was acknowledged and is lost"
                assert found[key].labels["push"] == push.request_id, f"{key} is another push's"
        unknown = set(found) - set(self.acknowledged)
        there = {}
        for key in unknown:
            there.setdefault(found[key].labels["push"], []).append(key)
        assert set(there) <= {push.request_id for push in doubtful}, f"versions of no push: {unknown}"

        for push in doubtful:
            keys = there.get(push.request_id, [])
            assert len(keys) <= 1, f"one push became {keys}"
            if keys:
                self.check_bytes(client, push, found[keys[0]].name)
                self.found_whole += 1
            if push.by_tool:
                assert push.send_by_tool(self.server, self.folder)
            else:
                push.send(client, timeout=60)
            assert not keys or (push.run, push.version) == keys[0], f"a retry of {keys[0]} made version {push.version}"
            self.remember(push)
            self.retried += 1
        after = self.listed(client)
        by_push = [one.labels["push"] for one in after.values()]
        assert len(by_push) == len(set(by_push)), "a push is there twice"

        for key, push in list(self.acknowledged.items()):
            if key in after and (thorough or push in recent or push in doubtful):
                self.check_bytes(client, push, after[key].name)
        client.close()
        return len(after)


def tell(folder, seed, kills, longest):
    """`kills` kills of a server on one data directory. Returns what came of it, for the summary."""
    story, slowest, began = Story(folder, seed), 0.0, time.monotonic()
    try:
        for number in range(1, kills + 1):
            known = len(story.acknowledged)
            doubtful = story.kill_once(longest)
            recent = list(story.acknowledged.values())[known:]
            restarted = time.monotonic()
            story.server.start()
            slowest = max(slowest, time.monotonic() - restarted)
            count = story.check(doubtful, recent)
            story.server.kill()  # also a kill: right after recovery
            if number % 10 == 0:
                print(f"kill9: {number} kills, {count} versions, {time.monotonic() - began:.0f} s", flush=True)
        story.server.start()
        count = story.check([], [], thorough=True)
        assert story.server.stop() == 0
    except BaseException:
        print(f"kill9: FAILED; the data is in {folder}\n{story.server.log_tail()}", flush=True)
        raise
    finally:
        if story.server.process is not None and story.server.process.poll() is None:
            story.server.kill()
    assert story.retried, "no push was ever in flight at a kill: the test tests nothing"
    return (
        f"{len(story.acknowledged)} acknowledged versions, {count} there after {len(story.deleted)} deletions, {story.retried} pushes cut off, "
        f"of which {story.found_whole} were there whole; slowest restart {slowest:.2f} s; {time.monotonic() - began:.0f} s in all"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SCONCE_KILLS", "100")))
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    parser.add_argument("--longest", type=float, default=0.6, help="a kill comes at most this many seconds after the start")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)

    # A new data directory for each hundred: every check lists all versions there are.
    for first in range(0, options.kills, 100):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="sconce-kill9-"))
        kills = min(100, options.kills - first)
        print(f"kill9: {kills} kills, --seed {seed + first}, in {folder}", flush=True)
        print(f"kill9: {kills} kills: {tell(folder, seed + first, kills, options.longest)}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
