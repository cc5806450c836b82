#!/usr/bin/env python3
"""Kills the real server with SIGKILL at random moments under a mixed load, and holds it to its promises after each restart.

    kill9.py [--kills N] [--seed N]          default: SCONCE_KILLS from the environment, else 100 kills

* A push that was acknowledged is there, whole, under the version that was answered: its bytes are compared.
* A push that was not acknowledged is there at most once, and then whole. Its retry with the same request_id answers that version,
  or makes it now; afterwards it is there exactly once.
* Nothing else is there: every listed version belongs to a push, and numbers are never used twice.
* A deletion, an alias's move or an update that was acknowledged happened; one that was not happened or did not. A run with a
  retention policy loses none of its newest versions.
* What an acknowledged abort ended is gone, and no upload that was never committed is a version. When they
  are all aborted, they take no space.
* A backup that was acknowledged holds all that had been acknowledged before it, and is a data directory like any other; one that was not
  is such a one too, or is not there.
* The next start and one collection leave nothing that no version needs, and every reference count is right: the data directory is
  computed anew from its manifests and footers (tests/tools/audit_data_dir.cc), at some kills and at the end.

Some pushes go through ImportCheckpoint from threads here, some through `sconce push` in processes of their own, alone or several that
bring the parts of one upload; sizes go from a few hundred bytes to some MiB, and much content repeats so that chunks are shared.
Meanwhile an operator deletes, moves aliases, adds metrics, sends uploads that it aborts or forgets, takes backups, and collects
garbage, with which blobs are compacted.
"""

import argparse
import collections
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import grpc  # noqa: E402
import load  # noqa: E402
import sconced  # noqa: E402
import stubs  # noqa: E402
from load import RUNS, content_digest  # noqa: E402
from sconce.v1 import admin_service_pb2  # noqa: E402

LIMITED = RUNS[2]  # has a retention policy
KEPT = 5  # the newest of its versions
PUSHERS = ["tool", "import", "parts"]
AUDIT = sconced.BIN.parent / "tests/audit_data_dir"


class Story:
    """All pushes so far, and the server they go to."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.contents = load.Contents(seed)
        self.backup_dir = folder / "backups"
        self.backup_dir.mkdir()
        self.server = sconced.Server(folder / "data", ["--backup-dir", self.backup_dir])
        self.acknowledged = {}  # (run, version) -> Push
        self.deleted = set()  # acknowledged deletions
        self.doubtful_deletions = set()  # asked for, not acknowledged
        self.aliases = {(run, alias): {0} for run in RUNS[:2] for alias in ("prod", "test")}  # the versions each may name; 0: none
        self.metrics = {}  # (run, version) -> {name: value}, acknowledged
        self.counts = collections.Counter()
        self.aborted = []  # acknowledged
        self.forgotten = []  # uploads that nobody commits
        self.backups = {}  # name -> [whether it was acknowledged, the pushes that were acknowledged before]
        self.tools = []  # processes of `sconce push` that were started
        self.lock = threading.Lock()

    def pusher(self, stop, doubtful, way):
        """Pushes until the server is gone. A push whose answer did not come is `doubtful`."""
        client = self.server.stubs()
        try:
            while not stop.is_set():
                push = self.contents.make(parts=self.random.randint(2, 3) if way == "parts" else 1)
                try:
                    if way == "import":
                        push.send(client, timeout=20)
                        acknowledged = True
                    else:
                        acknowledged = push.send_by_tool(self.server, self.folder, lambda process: self.tool_started(process, stop))
                except grpc.RpcError:
                    acknowledged = False
                with self.lock:
                    if not acknowledged:
                        doubtful.append(push)
                        return
                    self.remember(push)
                    self.counts[f"pushes by {way}"] += 1
        finally:
            client.close()

    def tool_started(self, process, stop):
        with self.lock:
            self.tools.append(process)
            if stop.is_set():
                process.kill()

    def remember(self, push):
        key = (push.run, push.version)
        assert key not in self.acknowledged or self.acknowledged[key] is push, f"{key} was given to two pushes"
        self.acknowledged[key] = push

    def operator(self, stop):
        """Deletes, moves aliases, adds metrics, abandons uploads, takes backups and collects until the server is gone."""
        client, rng = self.server.stubs(), random.Random(self.random.random())
        works = [self.delete_one, self.delete_one, self.move_alias, self.move_alias, self.add_metric, self.collect]
        try:
            # One of these a time: they take long.
            rng.choice([self.take_backup, lambda c, r: self.abandon_upload(c, r, stop), lambda c, r: self.abandon_upload(c, r, stop)])(client, rng)
            while not stop.wait(rng.uniform(0, 0.05)):
                rng.choice(works)(client, rng)
        except grpc.RpcError:
            pass
        finally:
            client.close()

    def choose(self, rng, runs, least):
        """A version that is there for sure, and that nobody is about to delete."""
        with self.lock:
            there = [key for key in self.acknowledged if key[0] in runs and key not in self.deleted and key not in self.doubtful_deletions]
            aliased = {(run, version) for (run, _), versions in self.aliases.items() for version in versions}
            there = [key for key in there if key not in aliased]
            return rng.choice(there) if len(there) >= least else None

    def delete_one(self, client, rng):
        key = self.choose(rng, RUNS, least=10)
        if key is None:
            return
        self.doubtful_deletions.add(key)
        name = f"projects/default/runs/{key[0]}/checkpoints/{key[1]}"
        try:
            client.checkpoints.DeleteCheckpoint(stubs.checkpoints.DeleteCheckpointRequest(name=name), timeout=20)
        except grpc.RpcError as error:
            if not (key[0] == LIMITED and error.code() == grpc.StatusCode.NOT_FOUND):  # retention was quicker
                raise
        self.doubtful_deletions.discard(key)
        self.deleted.add(key)
        self.counts["deletions"] += 1

    def move_alias(self, client, rng):
        key = self.choose(rng, RUNS[:2], least=3)
        if key is None:
            return
        alias = (key[0], rng.choice(["prod", "test"]))
        self.aliases[alias].add(key[1])
        name = f"projects/default/runs/{alias[0]}/aliases/{alias[1]}"
        client.checkpoints.SetAlias(stubs.checkpoints.SetAliasRequest(name=name, selector=str(key[1])), timeout=20)
        self.aliases[alias] = {key[1]}
        self.counts["alias moves"] += 1

    def add_metric(self, client, rng):
        key = self.choose(rng, RUNS[:2], least=1)
        if key is None:
            return
        metric, value = f"m{next(self.contents.counter)}", rng.random()
        checkpoint = {"name": f"projects/default/runs/{key[0]}/checkpoints/{key[1]}", "metrics": {metric: value}}
        client.checkpoints.UpdateCheckpoint(stubs.checkpoints.UpdateCheckpointRequest(checkpoint=checkpoint), timeout=20)
        self.metrics.setdefault(key, {})[metric] = value
        self.counts["updates"] += 1

    def collect(self, client, _):
        client.admin.CollectGarbage(admin_service_pb2.CollectGarbageRequest(), timeout=20)
        self.counts["collections"] += 1

    def abandon_upload(self, client, rng, stop):
        """Sends one part of two, and aborts or forgets the upload."""
        push = self.contents.make(parts=2)
        self.forgotten.append(push)
        sent = push.send_by_tool(self.server, self.folder, lambda process: self.tool_started(process, stop), parts=[rng.randrange(2)])
        if not sent:
            return  # the server is gone, or going
        if rng.random() < 0.3:
            self.counts["forgotten uploads"] += 1
            return
        client.transfer.AbortUpload(stubs.transfer.AbortUploadRequest(name=push.upload), timeout=20)
        self.aborted.append(push)
        self.forgotten.remove(push)
        self.counts["aborts"] += 1

    def take_backup(self, client, _):
        if self.backups:
            return  # one a time is enough to look at
        name = f"backup{next(self.contents.counter)}"
        with self.lock:
            gone = self.deleted | self.doubtful_deletions
            before = {key: push for key, push in self.acknowledged.items() if key not in gone and key[0] != LIMITED}
        backup = self.backups[name] = [False, before]
        client.admin.Backup(admin_service_pb2.BackupRequest(directory=name), timeout=60)
        backup[0] = True

    def limit(self):
        """Gives one run a retention policy."""
        client = self.server.stubs()
        request = stubs.checkpoints.CreateRunRequest(run_id=LIMITED, run={"retention": {"keep_last": KEPT}})
        client.checkpoints.CreateRun(request, timeout=20)
        client.close()

    def run_audit(self, data_dir, *options):
        found = subprocess.run([AUDIT, data_dir, *options], capture_output=True, text=True, check=False, timeout=300)
        assert found.returncode == 0, f"{data_dir} is not what its versions need:\n{found.stdout}{found.stderr}"

    def check_backups(self):
        """Each that was taken since this was last asked; they go then."""
        for name, (acknowledged, before) in self.backups.items():
            path = self.backup_dir / name
            assert path.exists() or not acknowledged, f"{name} was acknowledged and is lost"
            if not path.exists():
                continue
            self.run_audit(path, "--leaks-allowed")
            copy = sconced.Server(path, log=self.server.log)
            copy.start()
            client = copy.stubs()
            found = self.listed(client)
            for key, push in before.items():
                # What was deleted while it was taken may be in it or not.
                assert key in found or key in self.deleted or key in self.doubtful_deletions, f"{key} is not in {name}"
                assert key not in found or found[key].labels["push"] == push.request_id, f"{key} is another push's in {name}"
            for key in self.random.sample(sorted(set(before) & set(found)), min(3, len(set(before) & set(found)))):
                self.check_bytes(client, before[key], found[key].name)
            client.close()
            assert copy.stop() == 0
            shutil.rmtree(path)
            self.counts["backups" if acknowledged else "backups cut off, and whole"] += 1
        self.backups = {}

    def audit(self):
        """Restarts, collects once, stops, and computes the data directory anew."""
        self.server.start()
        client = self.server.stubs()
        client.admin.CollectGarbage(admin_service_pb2.CollectGarbageRequest(), timeout=60)
        client.close()
        assert self.server.stop() == 0
        self.run_audit(self.server.data_dir)
        self.counts["audits"] += 1

    def abort_what_is_forgotten(self):
        """Then no upload takes space; and one more backup removes what dead ones left."""
        self.server.start()
        client = self.server.stubs()
        for push in self.forgotten:
            try:
                client.transfer.AbortUpload(stubs.transfer.AbortUploadRequest(name=push.upload), timeout=20)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error  # the server died before it knew of it
        client.admin.CollectGarbage(admin_service_pb2.CollectGarbageRequest(), timeout=60)
        left = [path.name for path in (self.server.data_dir / "uploads").iterdir()]
        assert not left, f"{left} are of no upload"
        client.admin.Backup(admin_service_pb2.BackupRequest(directory="last"), timeout=60)
        assert [path.name for path in self.backup_dir.iterdir()] == ["last"]
        self.backups["last"] = [True, {}]
        client.close()
        self.server.kill()
        self.check_backups()

    def kill_once(self, longest):
        """Starts the server, pushes, kills it at a random moment, and returns the pushes that were not acknowledged."""
        self.server.start()
        stop, doubtful = threading.Event(), []
        threads = [threading.Thread(target=self.pusher, args=(stop, doubtful, way)) for way in PUSHERS]
        threads.append(threading.Thread(target=self.operator, args=(stop,)))
        for thread in threads:
            thread.start()
        time.sleep(self.random.uniform(0, longest))  # the moment is the experiment
        self.server.kill()
        stop.set()
        with self.lock:
            for tool in self.tools:
                tool.kill()  # else it would try again for a while, as it should
        for thread in threads:
            thread.join()
        self.tools = []
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

    def alias_version(self, client, name):
        try:
            return client.checkpoints.GetAlias(stubs.checkpoints.GetAliasRequest(name=name), timeout=20).version
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            return 0

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
            elif key not in found:
                # Those too that were deleted after retention had counted them.
                ever = set(found) | self.deleted | self.doubtful_deletions
                newer = sum(run == key[0] and version > key[1] for run, version in ever)
                assert key[0] == LIMITED and newer >= KEPT, f"{key} was acknowledged and is lost"
                self.deleted.add(key)
            else:
                assert found[key].labels["push"] == push.request_id, f"{key} is another push's"
        for key, metrics in self.metrics.items():
            if key in found:
                assert metrics.items() <= dict(found[key].metrics).items(), f"{key} lacks a metric that was acknowledged"
        for (run, alias), allowed in self.aliases.items():
            version = self.alias_version(client, f"projects/default/runs/{run}/aliases/{alias}")
            assert version in allowed, f"alias {alias} of {run} names {version}, not one of {allowed}"
            self.aliases[run, alias] = {version}
        for push in self.aborted:
            try:
                upload = client.transfer.GetUpload(stubs.transfer.GetUploadRequest(name=push.upload), timeout=20)
                raise AssertionError(f"{upload.name} was aborted and is back")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
        self.aborted = self.aborted[-20:]
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
                self.counts["found whole"] += 1
            if push.by_tool:
                assert push.send_by_tool(self.server, self.folder)
            else:
                push.send(client, timeout=60)
            assert not keys or (push.run, push.version) == keys[0], f"a retry of {keys[0]} made version {push.version}"
            self.remember(push)
            self.counts["cut off"] += 1
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
        story.server.start()
        story.limit()
        story.server.kill()
        for number in range(1, kills + 1):
            known = len(story.acknowledged)
            doubtful = story.kill_once(longest)
            recent = list(story.acknowledged.values())[known:]
            restarted = time.monotonic()
            story.server.start()
            slowest = max(slowest, time.monotonic() - restarted)
            count = story.check(doubtful, recent)
            story.server.kill()  # also a kill: right after recovery
            story.check_backups()
            if number % 5 == 0:
                story.audit()
            if number % 10 == 0:
                print(f"kill9: {number} kills, {count} versions, {time.monotonic() - began:.0f} s", flush=True)
        story.server.start()
        count = story.check([], [], thorough=True)
        assert story.server.stop() == 0
        story.abort_what_is_forgotten()
        story.audit()
    except BaseException:
        print(f"kill9: FAILED; the data is in {folder}\n{story.server.log_tail()}", flush=True)
        raise
    finally:
        if story.server.process is not None and story.server.process.poll() is None:
            story.server.kill()
    log = story.server.log.read_text(encoding="utf-8", errors="replace")
    story.counts["compacted blobs"] = sum(map(int, re.findall(r'"event":"collected".*?"compacted":"?(\d+)', log)))
    assert story.counts["cut off"], "no push was ever in flight at a kill: the test tests nothing"
    if kills >= 100:
        for what in [f"pushes by {way}" for way in PUSHERS] + ["deletions", "alias moves", "updates", "aborts", "backups", "compacted blobs"]:
            assert story.counts[what], f"the load had no {what}"
    counts = ", ".join(f"{number} {what}" for what, number in sorted(story.counts.items()))
    return f"{len(story.acknowledged)} acknowledged versions, {count} there; {counts}; slowest restart {slowest:.2f} s; {time.monotonic() - began:.0f} s in all"


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
