#!/usr/bin/env python3
"""PyTorch's verdict on what the demo got out of Sconce. Prints one line per finding; fails if one is wrong.

    demo_judge.py mapped OUT ORIGINAL     OUT loads without a GPU and holds what ORIGINAL holds
    demo_judge.py same OUT ORIGINAL       OUT is what ORIGINAL is, device tags included
    demo_judge.py answer JSON SAMPLE      an answer of `sconce infer -o json` is the `y` of SAMPLE
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/support"))

import judge  # noqa: E402
import torch  # noqa: E402


def mapped(out, original):
    torch.load(out)  # without map_location: fails where a tag names a device that this machine lacks
    before, after = (sorted(set(judge.device_tags(path).values())) for path in (original, out))
    assert after == ["cpu"], after
    assert judge.described(out) == judge.described(original)
    print(f"torch.load opens it here; saved on {', '.join(before)}, now on {', '.join(after)}; every tensor has the same bits")


def same(out, original):
    assert judge.described(out) == judge.described(original)
    assert list(judge.device_tags(out).values()) == list(judge.device_tags(original).values())
    print("torch.load finds the same tree: types, shapes, strides, bits, shared storages, device tags")


def answer(answer_file, sample_file):
    with open(answer_file, encoding="utf-8") as file:
        output = json.load(file)["outputs"][0]
    y = torch.load(sample_file)["y"]
    values = torch.tensor(output["data"]).reshape([int(size) for size in output["shape"]])
    difference = (values - y).abs().max().item()
    assert values.shape == y.shape and difference < 1e-5, difference
    print(f"the answer is PyTorch's own in eval mode: at most {difference:.1e} apart")


if __name__ == "__main__":
    {"mapped": mapped, "same": same, "answer": answer}[sys.argv[1]](*sys.argv[2:])
