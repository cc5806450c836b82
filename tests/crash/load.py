"""What the clients of kill9.py want stored: whole files, files of several parts that are uploaded together, uploads that come to nothing."""

import collections
import hashlib
import io
import itertools
import os
import random
import subprocess
import threading
import uuid

import sconced
import torch

RUNS = [f"run{i}" for i in range(3)]


def tree_digest(tree):
    """Of what a checkpoint holds; files that hold the same may differ."""
    tensors = [tensor for key in sorted(tree) if key.startswith("tensors") for tensor in tree[key]]
    digest = hashlib.sha256(repr((tree["number"], [t.shape for t in tensors])).encode())
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def content_digest(data):
    return tree_digest(torch.load(io.BytesIO(data)))


def saved(tree):
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


class Push:
    """One thing that a client wants stored, and what it knows about it. A file for each part."""

    def __init__(self, run, trees):
        self.run, self.files = run, [saved(tree) for tree in trees]
        self.digest = tree_digest(dict(collections.ChainMap(*trees)))
        self.request_id = str(uuid.uuid4())
        self.version = None  # as acknowledged
        self.by_tool = False

    @property
    def upload(self):
        return f"projects/default/runs/{self.run}/uploads/{self.request_id}"

    def send(self, client, timeout):
        """Through ImportCheckpoint. The label tells to which push a version belongs."""
        checkpoint = {"labels": {"push": self.request_id}}
        made = client.import_file(self.run, self.files[0], self.request_id, push={"checkpoint": checkpoint}, timeout=timeout, piece=300_000)
        self.version = made.version

    def send_by_tool(self, server, folder, started=lambda process: None, parts=None):
        """Through `sconce push`, a process for each part (or those in `parts`), all at once; `started` gets each. True when the version was
        acknowledged, or with `parts` when each of them was."""
        self.by_tool = True
        environment = {**os.environ, "SCONCE_TARGET": server.target}
        processes = []
        for part in range(len(self.files)) if parts is None else parts:
            path = folder / f"{self.request_id}.{part}.pt"
            if not path.exists():  # else it is a retry, which goes on where the first one stopped: that was of the same file
                path.write_bytes(self.files[part])
            command = [sconced.BIN / "sconce", "push", path, self.run, "--request-id", self.request_id, "--label", f"push={self.request_id}", "-o", "name"]
            if len(self.files) > 1:
                command += ["--part", f"{part}/{len(self.files)}", "--upload", self.request_id]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            started(process)
            processes.append((process, path))
        versions = set()
        for process, path in processes:
            said, _ = process.communicate(timeout=120)
            if process.returncode == 0 and "/checkpoints/" in said:
                versions.add(int(said.strip().rpartition("/")[2]))
        assert len(versions) <= 1, f"one push is versions {versions}"
        all_done = all(process.returncode == 0 for process, _ in processes)
        if parts is not None:
            assert not versions, "a version was made of some parts"
            for _, path in processes:
                path.unlink()
            return all_done
        assert versions or not all_done, "every part was acknowledged, and there is no version"
        if versions:
            self.version = versions.pop()
            for _, path in processes:
                path.unlink()
        return self.version is not None


class Contents:
    """Makes checkpoints: mostly new bytes, often with tensors of an earlier one."""

    def __init__(self, seed):
        self.random, self.lock, self.counter = random.Random(seed), threading.Lock(), itertools.count()
        self.shared = [torch.rand(1_500_000, generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def tensors(self, seed):
        sizes = [int(10 ** self.random.uniform(0.5, 6)) for _ in range(self.random.randint(1, 4))]
        tensors = [torch.rand(size, generator=torch.Generator().manual_seed(seed * 10 + i)) for i, size in enumerate(sizes)]
        if self.random.random() < 0.6:
            tensors.append(self.random.choice(self.shared))
        return tensors

    def make(self, parts=1):
        with self.lock:
            number = next(self.counter)
            trees = [{f"tensors{part}": self.tensors(number * 10 + part)} for part in range(parts)]
            run = self.random.choice(RUNS)
        trees[0].update(number=number, loss=1 / (number + 1))
        return Push(run, trees)
