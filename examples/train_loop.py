#!/usr/bin/env python3
"""Trains the PyTorch tutorial's CNN and saves a version after each epoch, in the background. With --resume it goes on where the run was left, bit for bit as
if it had never been interrupted.

    pip install ./client/python      # or PYTHONPATH=client/python
    examples/train_loop.py --target 127.0.0.1:7433 --run cnn --epochs 5
    examples/train_loop.py --target 127.0.0.1:7433 --run cnn --epochs 9 --resume
"""
import argparse

import torch
from torch.nn.functional import cross_entropy
from tutorial_cnn import Net, images

import sconce

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.002),
}

parser = argparse.ArgumentParser()
parser.add_argument("--target", default=None, help="the server; by default SCONCE_TARGET")
parser.add_argument("--run", default="cnn")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
parser.add_argument("--resume", action="store_true", help="go on from the run's latest version, when it has one")
options = parser.parse_args()

run = sconce.connect(options.target).run(options.run)
torch.manual_seed(1)
net = Net()
optimizer = OPTIMIZERS[options.optimizer](net.parameters())
(x, y), (held_out_x, held_out_y) = images(2000, seed=1), images(500, seed=2)

first_epoch = 1
if options.resume:
    try:
        checkpoint = run.load("latest")
    except sconce.NotFoundError:
        print("nothing was saved yet: from the start", flush=True)
    else:
        net.load_state_dict(checkpoint["model_state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        torch.set_rng_state(checkpoint["rng_state"])  # the order of the images to come
        first_epoch = checkpoint["epoch"] + 1
        print(f"resumed after epoch {checkpoint['epoch']}", flush=True)

for epoch in range(first_epoch, options.epochs + 1):
    for batch in torch.randperm(len(x)).split(50):
        # The last epoch goes wrong on purpose, with the labels of other images: now the latest is not the best.
        labels = y[batch] if epoch < options.epochs else y[batch].roll(1)
        optimizer.zero_grad()
        cross_entropy(net(x[batch]), labels).backward()
        optimizer.step()
    with torch.no_grad():
        loss = cross_entropy(net(held_out_x), held_out_y).item()
    checkpoint = {
        "epoch": epoch,
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "rng_state": torch.get_rng_state(),
        "loss": loss,
    }
    # Returns as soon as it has a copy, so the next epoch may begin. The one before is over by then, and would have raised what it failed with.
    run.save_async(checkpoint)
    print(f"epoch {epoch}: loss {loss:.4f}", flush=True)

run.wait()
print(f"the latest is {run.get('latest').ref}, the best is {run.get('best').ref}", flush=True)
