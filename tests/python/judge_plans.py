#!/usr/bin/python3
"""PyTorch judges warm starts: what PlanLoad says of random pairs of model and state_dict is what load_state_dict of this release says, in its
words and its order.

    judge_plans.py PLAN_TOOL [--count N]       all three steps
    judge_plans.py --make FOLDER [--count N]   1. writes FOLDER/N.state.pt, FOLDER/N.target.pt, and which they are to FOLDER/list
    plan_pairs < FOLDER/list > FOLDER/answers  2. Sconce plans (in FOLDER)
    judge_plans.py --judge FOLDER              3. PyTorch loads, and compares

The first and the last step are for the same PyTorch, since pairs are made anew from their seeds. Exits 77 without PyTorch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
try:
    import torch
    import model_pairs
except ImportError as error:
    print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
    sys.exit(77)


def make(folder, count):
    with open(os.path.join(folder, "list"), "w", encoding="utf-8") as listed:
        for seed in range(count):
            pair = model_pairs.pair(seed)
            torch.save(pair.saved, os.path.join(folder, f"{seed}.state.pt"))
            torch.save(pair.model.state_dict(), os.path.join(folder, f"{seed}.target.pt"))
            listed.write(f"{seed}.state.pt\t{seed}.target.pt\t{','.join(pair.rules['strip_prefixes'])}\n")


def attempt(pair, strict):
    try:
        return pair.model.load_state_dict(pair.state, strict=strict), ""
    except RuntimeError as error:
        return None, str(error)


def cannot_be_told(pair):
    """Whether a key lies below a submodule without tensors, of which a model's own state_dict says nothing: its place among the unexpected
    keys is then another one (storage/format/load_plan.h)."""
    empty = [name + "." for name, module in pair.model.named_modules() if name and not module.state_dict()]
    return any(key.startswith(name) for key in pair.state for name in empty)


def problem(pair, answer):
    strict, mismatched, missing, unexpected = (part.replace("\\n", "\n").replace("\\t", "\t") for part in answer.rstrip("\n").split("\t"))
    mismatched, missing, unexpected = ([one for one in part.split("\x1f") if one] for part in (mismatched, missing, unexpected))
    expected = attempt(pair, True)[1]
    if strict != expected:
        return f"strict: {strict!r}, expected {expected!r}"
    loaded, error = attempt(pair, False)
    if error:
        sentences = "Error(s) in loading state_dict for Net:\n\t" + "\n\t".join(mismatched)
        return None if sentences == error else f"{sentences!r}, expected {error!r}"
    got = (mismatched, missing, unexpected)
    wanted = ([], loaded.missing_keys, loaded.unexpected_keys)
    return None if got == wanted else f"{got}, expected {wanted}"


def judge(folder):
    with open(os.path.join(folder, "answers"), encoding="utf-8") as file:
        answers = file.read().split("\n")[:-1]
    wrong = fit = skipped = 0
    for seed, answer in enumerate(answers):
        pair = model_pairs.pair(seed)
        if cannot_be_told(pair):
            skipped += 1
            continue
        what = problem(pair, answer)
        fit += answer.startswith("\t")
        if what is not None:
            wrong += 1
            print(f"pair {seed}: {what}")
    print(f"{len(answers)} plans, {fit} that fit, {skipped} not comparable, {wrong} wrong, by PyTorch {torch.__version__}")
    return 1 if wrong or not fit or fit == len(answers) else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--count", type=int, default=460)
    parser.add_argument("place", help="the planning tool, or FOLDER")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.make:
        make(options.place, options.count)
        return 0
    if options.judge:
        return judge(options.place)
    with tempfile.TemporaryDirectory() as folder:
        make(folder, options.count)
        with open(os.path.join(folder, "list"), "rb") as listed, open(os.path.join(folder, "answers"), "wb") as answers:
            subprocess.run([os.path.abspath(options.place)], stdin=listed, stdout=answers, cwd=folder, check=True)
        return judge(folder)


if __name__ == "__main__":
    sys.exit(main())
