#!/usr/bin/env python3
"""Trains the PyTorch tutorial's CNN on made-up images, and pushes a checkpoint to Sconce after each epoch.

    examples/generate_stubs.sh /tmp/stubs
    PYTHONPATH=/tmp/stubs /usr/bin/python3 examples/train_loop.py --target 127.0.0.1:7433 --run cnn --epochs 5
"""
import argparse
import io

import grpc
import torch
from torch import nn
from torch.nn import functional as F

from sconce.v1 import transfer_service_pb2 as transfer
from sconce.v1 import transfer_service_pb2_grpc as services


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))))


def images(count, seed):
    """Ten faint patterns under noise: a training set that needs no download."""
    patterns = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=noise)
    return patterns[labels] + 0.6 * torch.randn(count, 3, 32, 32, generator=noise), labels


def push(stub, run, checkpoint):
    """torch.save into memory, and from there to the server in pieces; it reads epoch and loss from the checkpoint itself."""
    file = io.BytesIO()
    torch.save(checkpoint, file)

    def messages(data, piece=1 << 20):
        yield transfer.ImportCheckpointRequest(header={"push": {"parent": f"projects/default/runs/{run}"}})
        for start in range(0, len(data), piece):
            yield transfer.ImportCheckpointRequest(offset=start, data=data[start : start + piece])

    return stub.ImportCheckpoint(messages(file.getvalue()), timeout=60)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="127.0.0.1:7433")
    parser.add_argument("--run", default="cnn")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    torch.manual_seed(1)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    (x, y), (held_out_x, held_out_y) = images(2000, seed=1), images(500, seed=2)
    stub = services.TransferServiceStub(grpc.insecure_channel(options.target))

    for epoch in range(1, options.epochs + 1):
        if epoch == options.epochs:
            optimizer.param_groups[0]["lr"] = 1.0  # the last epoch goes wrong on purpose: now the latest is not the best
        net.train()
        for batch in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            loss = F.cross_entropy(net(held_out_x), held_out_y).item()
        saved = push(stub, options.run, {
            "epoch": epoch, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "loss": loss,
        })
        print(f"epoch {epoch}: loss {loss:.4f}, saved as version {saved.version}", flush=True)


if __name__ == "__main__":
    main()
