#!/usr/bin/env python3
"""Loads a version on a host whose devices are not those that it was saved on.

    pip install ./client/python      # or PYTHONPATH=client/python
    examples/load_on_devices.py --target 127.0.0.1:7433 --run cnn@best
"""
import argparse
import collections
import warnings

import torch

import sconce

parser = argparse.ArgumentParser()
parser.add_argument("--target", default=None, help="the server; by default SCONCE_TARGET")
parser.add_argument("--run", default="cnn@best", help="RUN@SELECTOR")
options = parser.parse_args()
name, _, selector = options.run.partition("@")
run, selector = sconce.connect(options.target).run(name), selector or "latest"


def devices(value):
    """How many tensors of a checkpoint are on which device."""
    if isinstance(value, torch.Tensor):
        return collections.Counter([str(value.device)])
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(devices, parts), collections.Counter())


saved_on = sorted({entry.device for entry in run.describe(selector) if entry.device})
print(f"saved on {', '.join(saved_on)}")

# As it was saved. What was on a device that is not here goes to the CPU, and a warning says so.
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    print("as saved:", dict(devices(run.load(selector))))
for each in warned:
    print("warning:", each.message)

# From each old device to one that is here, taking turns.
here = [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
remap = {tag: here[number % len(here)] for number, tag in enumerate(saved_on)}
print("remapped:", dict(devices(run.load(selector, map_location=remap))))

# A device that is asked for by name must be there: the error is torch.load's.
try:
    print("all on the first GPU:", dict(devices(run.load(selector, map_location="cuda:0"))))
except RuntimeError as error:
    print("no GPU here:", str(error).split(".", maxsplit=1)[0])
