#!/usr/bin/env python3
"""Answers with the best weights of a run while another process still trains it: looks what `best` means, fetches it mapped to the CPU
when it has moved, and classifies images with it. Ends when the run has as many versions as the training has epochs.

    PYTHONPATH=/tmp/stubs /usr/bin/python3 examples/serve_best.py --target 127.0.0.1:7433 --run cnn --epochs 5
"""
import argparse
import io
import time

import grpc
import torch
from tutorial_cnn import Net, images

from sconce.v1 import checkpoint_service_pb2 as checkpoints
from sconce.v1 import checkpoint_service_pb2_grpc, transfer_service_pb2_grpc
from sconce.v1 import transfer_service_pb2 as transfer


def fetch_weights(stub, name):
    """One branch of the checkpoint, as a file that torch.load reads: the optimizer's state does not move."""
    request = transfer.ExportCheckpointRequest(name=name, selection={"root": "/model_state_dict"}, device_mapping={"device": "cpu"})
    data = b"".join(message.data for message in stub.ExportCheckpoint(request, timeout=60))
    return torch.load(io.BytesIO(data), weights_only=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="127.0.0.1:7433")
    parser.add_argument("--run", default="cnn")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300, help="give up after this long")
    options = parser.parse_args()

    channel = grpc.insecure_channel(options.target)
    catalog = checkpoint_service_pb2_grpc.CheckpointServiceStub(channel)
    bytes_of = transfer_service_pb2_grpc.TransferServiceStub(channel)
    run = f"projects/default/runs/{options.run}"
    net, serving, latest = Net(), 0, 0
    x, y = images(500, seed=3)

    give_up = time.monotonic() + options.seconds
    while latest < options.epochs:
        if time.monotonic() > give_up:
            raise SystemExit(f"serve_best: the run still has {latest} versions after {options.seconds} seconds")
        try:
            best = catalog.GetCheckpoint(checkpoints.GetCheckpointRequest(name=f"{run}/checkpoints/best"))
            latest = catalog.GetCheckpoint(checkpoints.GetCheckpointRequest(name=f"{run}/checkpoints/latest")).version
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            best = None  # the training has not pushed anything yet
        if best is None or best.version == serving:
            time.sleep(0.1)  # asking again; a later release streams the changes
            continue
        net.load_state_dict(fetch_weights(bytes_of, best.name))
        net.eval()
        with torch.no_grad():
            right = (net(x).argmax(1) == y).float().mean().item()
        serving = best.version
        print(f"serving version {serving} (epoch {best.epoch}, loss {best.metrics['loss']:.4f}): {right:.0%} of {len(x)} images right", flush=True)
    print(f"the run ends at version {latest}; the best is version {serving}", flush=True)


if __name__ == "__main__":
    main()
