#!/usr/bin/python3
"""What becomes of calls that torch.load(weights_only=True) takes and no torch.save writes: set("abc"), bytearray(5), torch.FloatTensor([1, 2]).

    judge_calls.py REWRITE_TOOL             Sconce's reader, judged by what PyTorch 2.14 made of the same calls (calls_expected.txt)
    judge_calls.py --make FOLDER            1. writes FOLDER/N.pt, a torch file of each call, and FOLDER/list
    rewrite_torch --batch < list > answers  2. Sconce loads them and writes what it saw as FOLDER/N.out
    judge_calls.py --judge FOLDER           3. PyTorch loads what Sconce wrote: it must be what 2.14 made of the call
    judge_calls.py --check FOLDER           after --make, by PyTorch 2.14: whether calls_expected.txt still says what it makes of them
    judge_calls.py --record FOLDER          the same, and writes it anew
    judge_calls.py --sample FILE            writes one torch file with a call of each form: tests/data/objects/calls.pt

Exits 77 without PyTorch.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "support"))
from call_cases import cases, is_undefined, sample, torch_file  # noqa: E402

EXPECTED = os.path.join(HERE, "calls_expected.txt")
UNDEFINED = "undefined"  # instead of an answer: no two runs need give the same
REFUSED = "refused"
MEMORY = 8 << 30  # an extent may ask PyTorch for terabytes


def made_of(path):
    """What this PyTorch makes of a file, as text; it is told apart only up to what torch.save keeps."""
    import judge
    import torch

    plain = {"weights_only": True} if hasattr(torch.serialization, "safe_globals") else {}
    return repr(judge.described(path, **plain))


def asked(path, value):
    """PyTorch's answer to a call."""
    try:
        made = made_of(path)
    except Exception:  # anything may be wrong with a call
        return REFUSED
    return UNDEFINED if is_undefined(value) else made


def short(answer):
    """An answer as calls_expected.txt has it."""
    return answer if answer in (UNDEFINED, REFUSED) else hashlib.sha256(answer.encode()).hexdigest()[:16]


def read_expected():
    """{name: short answer}"""
    with open(EXPECTED, encoding="utf-8") as file:
        answers = [line.split(" ", 1)[0] for line in file if not line.startswith("#")]
    if len(answers) != len(cases()):
        raise SystemExit(f"judge_calls: {EXPECTED} has {len(answers)} answers to {len(cases())} calls; see --record")
    return dict(zip(cases(), answers))


def check(folder, record):
    import judge

    if judge.VERSION != (2, 14) and not record:
        print(f"judge_calls: what PyTorch {judge.VERSION} makes of the calls is not compared: the answers are of 2.14")
        return 0
    now = {name: asked(os.path.join(folder, f"{number}.pt"), value) for number, (name, value) in enumerate(cases().items())}
    if record:
        with open(EXPECTED, "w", encoding="utf-8") as file:
            file.write("# What PyTorch 2.14 makes of each call of judge_calls.py (a digest of its description); made by its --record.\n")
            for name, answer in now.items():
                file.write(f"{short(answer)} {name[:50]!a}\n")
    expected = read_expected()
    wrong = [name for name in now if short(now[name]) != expected[name]]
    for name in wrong:
        print(f"{name}\n  {now[name][:1000]}")
    print(f"judge_calls: {len(now)} calls, {len(wrong)} of which PyTorch makes something else than is recorded")
    return 1 if wrong else 0


def make(folder):
    with open(os.path.join(folder, "list"), "w", encoding="utf-8") as listed:
        for number, value in enumerate(cases().values()):
            with open(os.path.join(folder, f"{number}.pt"), "wb") as file:
                file.write(torch_file(value))
            listed.write(f"{number}.pt\t{number}.out\n")


def answers_of(folder):
    """(name, value, "ok" or why not) in the order of the files"""
    with open(os.path.join(folder, "answers"), encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip("\n").split("\t", 2) for line in file]
    if len(lines) != len(cases()):
        raise SystemExit(f"judge_calls: {len(lines)} answers to {len(cases())} calls")
    return [(name, value, line[1] if line[1] == "ok" else line[2]) for (name, value), line in zip(cases().items(), lines)]


# What Sconce says of the calls that PyTorch takes and it does not; docs/formats/torch_file.md has the reasons.
NOT_READ = [
    "in their order, which is another in each process",
    "of the elements of a tensor or another object",
    "only ascii, latin-1 and the utf ones are known",
    "with the names of its characters (namereplace)",
    "bytes are encoded by a codec",
    "in the digits of another script",
    "a torch.Size that no tensor has",
    "of an index that no device has",
    "a Counter with attributes",
    "a tensor that is set anew after it was made",
    "is called with arguments; save the tensor itself",
    "a tensor is made in a way no PyTorch saves it",
    "a tensor is given a state that no PyTorch saves",
    "of something else than strs, numbers and the like",
]


NEWER = ["mtia", "maia", "([1, 2],), {'a': 1})"]  # device types, and attributes of tensors, that PyTorch 1.13 does not load


def judge_all(folder):
    expected = read_expected()
    import judge

    kinds = ["the same", "refused by both", "undefined", "not read, as documented", "only Sconce reads it", "newer than this PyTorch"]
    counts = dict.fromkeys(kinds, 0)
    wrong = 0

    def complain(name, what):
        nonlocal wrong
        wrong += 1
        print(f"{name}\n  {what}")

    for number, (name, value, answer) in enumerate(answers_of(folder)):
        theirs = expected[name]
        if theirs == UNDEFINED:
            counts["undefined"] += 1
            if "whatever was in memory" not in answer:
                complain(name, f"is undefined, but: {answer}")
        elif answer == "ok" and theirs == REFUSED:
            counts["only Sconce reads it"] += 1
            if "device(" not in name:  # any word is the type of a device: PyTorch's own list grows with each release
                complain(name, "PyTorch does not take it, Sconce does")
        elif answer == "ok" and judge.VERSION < (2, 6) and any(word in name for word in NEWER):
            counts["newer than this PyTorch"] += 1
        elif answer == "ok":
            counts["the same"] += 1
            try:
                ours = made_of(os.path.join(folder, f"{number}.out"))
            except Exception as error:
                ours = f"what Sconce wrote does not load: {error}"
            if short(ours) != theirs:
                complain(name, f"Sconce makes {ours[:1000]} of it, PyTorch something else (see --check)")
        elif theirs == REFUSED:
            counts["refused by both"] += 1
        else:
            counts["not read, as documented"] += 1
            if not any(sentence in answer for sentence in NOT_READ):
                complain(name, f"PyTorch takes it (see --check); Sconce: {answer}")
    print(f"judge_calls: {len(expected)} calls: {counts}, {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", metavar="FOLDER")
    parser.add_argument("--judge", metavar="FOLDER")
    parser.add_argument("--check", metavar="FOLDER")
    parser.add_argument("--record", metavar="FOLDER")
    parser.add_argument("--sample", metavar="FILE")
    parser.add_argument("tool", nargs="?")
    options = parser.parse_args()
    if options.make:
        make(options.make)
        return 0
    if options.sample:
        with open(options.sample, "wb") as file:
            file.write(torch_file(sample()))
        return 0
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
        return 77
    warnings.simplefilter("ignore")
    if options.record or options.check:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        return check(options.record or options.check, bool(options.record))
    if options.judge:
        return judge_all(options.judge)
    with tempfile.TemporaryDirectory() as folder:
        make(folder)
        with open(os.path.join(folder, "list"), "rb") as listed, open(os.path.join(folder, "answers"), "wb") as answers:
            subprocess.run([os.path.abspath(options.tool), "--batch"], stdin=listed, stdout=answers, cwd=folder, check=True)
        return judge_all(folder)


if __name__ == "__main__":
    sys.exit(main())
