#!/usr/bin/python3
"""Differential test of the torch file reader: good archives, mutated at random. What Sconce loads and PyTorch's weights_only loader loads too
must be the same tree, to the bit.

    differential_torch.py REWRITE_TOOL [--count N] [--seed N] SOURCE...     all three steps
    differential_torch.py --make FOLDER [--count N] [--seed N] SOURCE...    1. writes FOLDER/N.pt, and which they are to FOLDER/list
    rewrite_torch --batch < FOLDER/list > FOLDER/answers                    2. Sconce loads them and writes what it saw as FOLDER/N.out
    differential_torch.py --judge FOLDER                                    3. PyTorch loads both and compares

A source is a file by torch.save, or a folder of them. The steps are apart because the PyTorch that judges may live in another root than
the tool. Exits 77 without PyTorch. The same seed makes the same files; a failing one is kept and named.
"""

import argparse
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

MUTATIONS = [1, 1, 1, 2, 4]  # in one file
LARGEST_SOURCE = 200_000  # bytes: what is mutated is the structure, not megabytes of tensors
MEMORY = 8 << 30  # a mutated extent may ask PyTorch for terabytes
# Opcodes and small numbers hit more than bytes at random do.
LIKELY = b"()}]{tuaseRbNIKMJGXQhqrB\x85\x86\x87\x88\x89\x8a\x8c\x8e\x8f\x90\x91\x93\x94\x95\x96.0\x00\x01\x02\x03\x04\x08\x10\x20\x40\xff"


def archives(sources):
    """(name, records) of every zip archive among the sources that can be a checkpoint."""
    paths = []
    for source in sources:
        paths += sorted(os.path.join(source, name) for name in os.listdir(source)) if os.path.isdir(source) else [source]
    for path in paths:
        if os.path.getsize(path) > LARGEST_SOURCE or not zipfile.is_zipfile(path):
            continue
        with zipfile.ZipFile(path) as archive:
            records = [(info.filename, archive.read(info)) for info in archive.infolist()]
        if any(name.endswith("/data.pkl") for name, _ in records) and not any("/code/" in name for name, _ in records):
            yield path, records


def mutate(data, others, rng):
    """One small change to a record."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice([1, 1, 1, 2, 3, 8, 40]))
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind in (1, 2):
        return data[:at] + bytes([rng.choice(LIKELY)]) + data[at + 1 :]
    if kind == 3:
        return data[:at] + data[end:]
    if kind == 4:
        return data[:end] + data[at:end] + data[end:]
    if kind == 5:
        return data[:at] + bytes([rng.choice(LIKELY)]) + data[at:]
    if kind == 6:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        return data[:at] + other[start : start + rng.choice([1, 2, 5, 20, 100])] + data[at:]
    to = rng.randrange(len(data) + 1)  # moves a piece
    return (data[:at] + data[end:])[:to] + data[at:end] + (data[:at] + data[end:])[to:]


def mutated(records, pickles, rng):
    """An archive with a few changes, mostly in the pickle; checksums fit, so that they do not decide."""
    records = [list(record) for record in records]
    tree = next(record for record in records if record[0].endswith("/data.pkl"))
    for _ in range(rng.choice(MUTATIONS)):
        target = tree if rng.random() < 0.9 else rng.choice(records)
        target[1] = mutate(target[1], pickles, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in records:
            archive.writestr(zipfile.ZipInfo(name), data)
    if rng.random() < 0.05:  # and sometimes in the container itself
        return mutate(file.getvalue(), pickles, rng)
    return file.getvalue()


def make(folder, count, seed, sources):
    found = list(archives(sources))
    if not found:
        raise SystemExit(f"differential: no archives in {sources}")
    pickles = [data for _, records in found for name, data in records if name.endswith("/data.pkl")]
    with open(os.path.join(folder, "list"), "w", encoding="utf-8") as listed:
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            path = os.path.join(folder, f"{number}.pt")
            with open(path, "wb") as file:
                file.write(mutated(rng.choice(found)[1], pickles, rng))
            listed.write(f"{number}.pt\t{number}.out\n")


def judge_all(folder):
    import judge
    import torch

    judge.allow_all()
    warnings.simplefilter("ignore")
    plain = {"weights_only": False} if hasattr(torch.serialization, "safe_globals") else {}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes = dict.fromkeys(["both", "sconce only", "torch only", "neither", "not comparable"], 0)
    failures = []
    with open(os.path.join(folder, "answers"), encoding="utf-8", errors="replace") as answers:
        lines = [line.rstrip("\n").split("\t") for line in answers]
    with open(os.path.join(folder, "list"), encoding="utf-8") as listed:
        names = [line.rstrip("\n").split("\t") for line in listed]
    if len(lines) != len(names):
        raise SystemExit(f"differential: the tool stopped after {len(lines)} of {len(names)} files: {names[len(lines)][0]}")
    for (original, written), answer in zip(names, lines):
        original, written = os.path.join(folder, original), os.path.join(folder, written)
        ours = answer[1] == "ok"
        try:
            theirs = torch.load(original, map_location="cpu", weights_only=True)
            loaded = True
        except Exception:  # anything may be wrong with the file
            loaded = False
        if not (ours and loaded):
            outcomes["sconce only" if ours else "torch only" if loaded else "neither"] += 1
            if loaded:
                print(f"torch only: {original}: {answer[2:]}")
            continue
        try:
            expected = judge._Describer().describe(theirs)
        except (TypeError, RuntimeError, MemoryError, RecursionError, ValueError, OverflowError, NotImplementedError) as error:
            outcomes["not comparable"] += 1
            print(f"not comparable: {original}: {str(error)[:100]}")
            continue
        outcomes["both"] += 1
        try:
            got = judge._Describer().describe(torch.load(written, map_location="cpu", **plain))
        except Exception as error:
            got = f"cannot load what Sconce wrote: {error}"
        if got != expected:
            failures.append(original)
            print(f"DIFFERENT: {original}\n  sconce {str(got)[:1500]}\n  torch  {str(expected)[:1500]}")
    print(f"differential: {len(names)} files by PyTorch {torch.__version__}: {outcomes}, {len(failures)} different")
    if outcomes["both"] < len(names) // 100:
        print("differential: too few files load in both to say anything")
        return ["too few"]
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("place", help="the rewriting tool, or FOLDER")
    parser.add_argument("sources", nargs="*")
    options = parser.parse_intermixed_args()
    if options.make:
        make(options.place, options.count, options.seed, options.sources)
        return 0
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
        return 77
    if options.judge:
        return 1 if judge_all(options.place) else 0

    folder = tempfile.mkdtemp(prefix="sconce-differential-")
    make(folder, options.count, options.seed, options.sources)
    with open(os.path.join(folder, "list"), "rb") as listed, open(os.path.join(folder, "answers"), "wb") as answers:
        subprocess.run([os.path.abspath(options.place), "--batch"], stdin=listed, stdout=answers, cwd=folder, check=True)
    if judge_all(folder):
        print(f"the files are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
