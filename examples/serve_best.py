#!/usr/bin/env python3
"""Answers with the best weights of a run while another process still trains it: is told of each version, loads those that are the best so far straight into
its own model, and classifies images. Ends when the run has as many versions as the training has epochs.

    pip install ./client/python      # or PYTHONPATH=client/python
    examples/serve_best.py --target 127.0.0.1:7433 --run cnn --epochs 5
"""
import argparse
import time

import torch
from tutorial_cnn import Net, images

import sconce

parser = argparse.ArgumentParser()
parser.add_argument("--target", default=None, help="the server; by default SCONCE_TARGET")
parser.add_argument("--run", default="cnn")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seconds", type=float, default=300, help="give up when the run has not begun after this long")
options = parser.parse_args()


def versions(run, give_up):
    """Each version as it comes, once there is a run at all."""
    while True:
        try:
            yield from run.watch("latest")
        except sconce.NotFoundError:
            if time.monotonic() > give_up:
                raise SystemExit(f"serve_best: there is no run {options.run} after {options.seconds} seconds") from None
            time.sleep(0.1)


run = sconce.connect(options.target).run(options.run)
net = Net().eval()
x, y = images(500, seed=3)
serving = 0
for latest in versions(run, time.monotonic() + options.seconds):
    best = run.get("best")
    if best.version != serving:
        run.load_into(net, best.version, branch="/model_state_dict")  # of the optimizer nothing is sent
        serving = best.version
        with torch.no_grad():
            right = (net(x).argmax(1) == y).float().mean().item()
        print(f"serving version {serving} (epoch {best.epoch}, loss {best.metrics['loss']:.4f}): {right:.0%} of {len(x)} images right", flush=True)
    if latest.version >= options.epochs:
        break
print(f"the run ends at version {latest.version}; the best is version {serving}", flush=True)
