#!/usr/bin/env python3
"""Trains the PyTorch tutorial's CNN, and pushes a checkpoint to Sconce after each epoch.

    examples/generate_stubs.sh /tmp/stubs
    PYTHONPATH=/tmp/stubs /usr/bin/python3 examples/train_loop.py --target 127.0.0.1:7433 --run cnn --epochs 5
"""
import argparse
import io

import grpc
import torch
from torch.nn.functional import cross_entropy
from tutorial_cnn import Net, images

from sconce.v1 import transfer_service_pb2 as transfer
from sconce.v1 import transfer_service_pb2_grpc as services

parser = argparse.ArgumentParser()
parser.add_argument("--target", default="127.0.0.1:7433")
parser.add_argument("--run", default="cnn")
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()
stub = services.TransferServiceStub(grpc.insecure_channel(options.target))


def push(checkpoint, piece=1 << 20):
    """torch.save into memory, and from there to the server in pieces; it reads epoch and loss from the checkpoint itself."""
    file = io.BytesIO()
    torch.save(checkpoint, file)

    def messages(data):
        yield transfer.ImportCheckpointRequest(header={"push": {"parent": f"projects/default/runs/{options.run}"}})
        for start in range(0, len(data), piece):
            yield transfer.ImportCheckpointRequest(offset=start, data=data[start : start + piece])

    return stub.ImportCheckpoint(messages(file.getvalue()), timeout=60)


torch.manual_seed(1)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
(x, y), (held_out_x, held_out_y) = images(2000, seed=1), images(500, seed=2)

for epoch in range(1, options.epochs + 1):
    if epoch == options.epochs:
        optimizer.param_groups[0]["lr"] = 1.0  # the last epoch goes wrong on purpose: now the latest is not the best
    for batch in torch.randperm(len(x)).split(50):
        optimizer.zero_grad()
        cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        loss = cross_entropy(net(held_out_x), held_out_y).item()
    saved = push({"epoch": epoch, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss})
    print(f"epoch {epoch}: loss {loss:.4f}, saved as version {saved.version}", flush=True)
