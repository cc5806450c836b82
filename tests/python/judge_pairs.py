#!/usr/bin/python3
"""PyTorch compares files with what Sconce made of them when it read them and wrote them again.

    judge_pairs.py ORIGINALS REWRITTEN     two folders with files of the same names, as deep as one likes

Each pair must load as the same tree: types, values, dtypes, shapes, strides, what shares a storage and what is one object, and each
storage with all its bytes and its device tag. The rewritten one is loaded plainly, and, by a PyTorch that has them, with
weights_only=True (numpy values being declared safe) and with mmap=True. Exits 77 without PyTorch.
"""

import os
import sys
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
try:
    import torch
    import judge
except ImportError as error:
    print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
    sys.exit(77)

NEW = judge.VERSION >= (2, 6)
PLAIN = {"weights_only": False} if judge.VERSION >= (2, 0) else {}
# What PyTorch 1.13 says to what came after it: functions, their later arguments, and compressed sparse tensors, for which it has
# a function of its own.
LATER = (
    "Can't get attribute '_rebuild_",
    "rebuilding sparse tensor for layout",
    "too many values to unpack",
    "_rebuild_tensor_v2() takes 6 positional arguments",
    "module 'torch' has no attribute",
    "Can't get attribute",
    "No module named 'torch.nested",
)


# An int of more than 255 bytes, which no weights-only loader takes, from whatever file.
HUGE_INT = "Unsupported operand 139"


def weights_only(path, **options):
    with judge.safe_numpy():
        return judge.described(path, exact=True, weights_only=True, **options)


def ways_of_loading(path):
    yield "plainly", lambda: judge.described(path, exact=True, **PLAIN)
    if NEW:
        yield "with weights_only", lambda: weights_only(path)
        yield "mapped", lambda: weights_only(path, mmap=True)


def difference(got, expected, place=""):
    """Where two descriptions part, and how."""
    if isinstance(got, tuple) and isinstance(expected, tuple) and len(got) == len(expected):
        for i, (one, other) in enumerate(zip(got, expected)):
            if one != other:
                return difference(one, other, f"{place}/{i}")
    return f"at {place}: {str(got)[:300]}, expected {str(expected)[:300]}"


def judge_pair(original, rewritten):
    """None when they are equal, else the problem; raises LookupError when this PyTorch cannot read the original."""
    try:
        expected = judge.described(original, exact=True, **PLAIN)
    except Exception as error:
        raise LookupError(str(error)) from error
    for way, load in ways_of_loading(rewritten):
        try:
            got = load()
        except Exception as error:
            if not NEW and any(known in str(error) for known in LATER):
                raise LookupError(str(error)) from error
            if way != "plainly" and HUGE_INT in str(error):
                continue
            return f"loaded {way}: {type(error).__name__}: {str(error)[:500]}"
        if got != expected:
            return f"loaded {way}: {difference(got, expected)}"
    return None


def main():
    warnings.simplefilter("ignore")
    originals, rewritten = sys.argv[1:]
    equal = wrong = 0
    for folder, _, names in sorted(os.walk(rewritten)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, rewritten)
            try:
                problem = judge_pair(os.path.join(originals, relative), path)
            except LookupError as error:
                print(f"not judged: {relative}: {str(error)[:160]}")
                continue
            if problem is None:
                equal += 1
            else:
                wrong += 1
                print(f"{relative}: {problem}")
    print(f"{equal} equal, {wrong} wrong, by PyTorch {torch.__version__}")
    return 1 if wrong or not equal else 0


if __name__ == "__main__":
    sys.exit(main())
