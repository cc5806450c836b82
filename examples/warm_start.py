#!/usr/bin/env python3
"""Begins the training of a model with the layers of another one that has other classes: looks first what would fit, then loads that, and saves the result
into a run of its own.

    pip install ./client/python      # or PYTHONPATH=client/python
    examples/warm_start.py --target 127.0.0.1:7433 --run cnn --into cnn-fine
"""
import argparse

import torch
from torch.nn.functional import cross_entropy
from tutorial_cnn import Net, images

import sconce

parser = argparse.ArgumentParser()
parser.add_argument("--target", default=None, help="the server; by default SCONCE_TARGET")
parser.add_argument("--run", default="cnn", help="the run whose best version is taken, of train_loop.py")
parser.add_argument("--into", default="cnn-fine", help="the run to save to")
options = parser.parse_args()

client = sconce.connect(options.target)
source = client.run(options.run)
torch.manual_seed(2)
net = Net()
net.fc3 = torch.nn.Linear(84, 2)  # even or odd, in place of ten classes

rules = {"branch": "/model_state_dict"}
print(source.plan(net, "best", **rules))
# A layer of another shape is an error, as for load_state_dict also with strict=False. Under another name it is not this model's.
rules["rename"] = {"fc3": "ten_classes"}
print(source.plan(net, "best", **rules))
missing, unexpected = source.load_into(net, "best", strict=False, min_match=0.7, **rules)
print(f"to be learned: {', '.join(missing)}; not taken: {', '.join(unexpected)}")

x, y = images(1000, seed=1)
optimizer = torch.optim.SGD(net.fc3.parameters(), lr=0.05, momentum=0.9)
for batch in torch.randperm(len(x)).split(50):
    optimizer.zero_grad()
    loss = cross_entropy(net(x[batch]), y[batch] % 2)
    loss.backward()
    optimizer.step()
saved = client.run(options.into).save({"epoch": 1, "model_state_dict": net.state_dict(), "loss": loss.item()}, labels={"from": source.get("best").ref})
print(f"saved as {saved.ref}: {saved.uploaded_bytes} of {saved.size_bytes} bytes were new")
