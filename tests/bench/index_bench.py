#!/usr/bin/python3
"""How long it takes to learn what a torch file holds, beside torch.load of the same file in the same run.

    index_bench.py INDEX_TOOL

Writes a file of 2 GiB in 2,048 tensors and one of 100,000 small tensors to $TMPDIR, then takes turns: INDEX_TOOL (tests/bench/index_torch.cc)
indexes it, PyTorch loads it with mmap=True (2.1 and newer; plainly before, which reads every byte). Medians and the spread, in milliseconds,
with the file in the page cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch

ROUNDS = 7
MMAP = hasattr(torch.serialization, "safe_globals")  # of the releases at hand, those with mmap=True


def load(path):
    return torch.load(path, map_location="cpu", **({"mmap": True, "weights_only": True} if MMAP else {}))


def row(name, milliseconds):
    ordered = sorted(milliseconds)
    print(f"| {name} | {statistics.median(ordered):.1f} | {ordered[0]:.1f} to {ordered[-1]:.1f} |")


def measure(tool, path, what):
    load(path)  # warms the page cache
    ours, theirs, answer = [], [], ""
    for _ in range(ROUNDS):
        *times, answer = subprocess.run([tool, path, "3"], check=True, capture_output=True, text=True).stdout.splitlines()
        ours += map(float, times)
        begin = time.perf_counter()
        load(path)
        theirs.append((time.perf_counter() - begin) * 1000)
    print(f"\n{what}: {os.path.getsize(path) / 2**20:.0f} MiB, {answer}\n\n| | median, ms | spread |\n|---|---|---|")
    row("Sconce indexes it", ours)
    row(f"torch.load{'(mmap=True)' if MMAP else ', which has no mmap,'} of PyTorch {torch.__version__}", theirs)


def main():
    tool = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="sconce-index-") as folder:
        path = os.path.join(folder, "file.pt")
        # torch.save of a comprehension keeps the whole file's tensors: 2 GiB of memory once.
        torch.save({f"layer.{i}.weight": torch.full((512, 512), float(i)) for i in range(2048)}, path)
        measure(tool, path, "2 GiB")
        torch.save({f"layer.{i}.weight": torch.full((8,), float(i)) for i in range(100_000)}, path)
        measure(tool, path, "100,000 small tensors")


if __name__ == "__main__":
    main()
