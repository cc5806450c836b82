#!/usr/bin/python3
"""The Python package beside PyTorch's own functions for the same tensors, in turns: run.save against torch.save and fsync, run.load against torch.load,
run.load_into against torch.load and load_state_dict, and how long run.save_async keeps its caller against a plain copy of the same bytes.

    python_client_bench.py [--rounds N]          with the server of SCONCE_BIN_DIR (default: build/bin)

Server, client and file are on this machine ($TMPDIR). Medians and the spread in milliseconds; the ratio is the median of the rounds' own ratios.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

import torch

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(SOURCE / "client/python"), str(SOURCE / "tests/support")]

import sconced  # noqa: E402
import sconce  # noqa: E402


class Layers(torch.nn.Module):
    def __init__(self, count, size):
        super().__init__()
        self.layers = torch.nn.ParameterList([torch.nn.Parameter(torch.rand(size)) for _ in range(count)])


def milliseconds(call):
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def spread(times):
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"


def row(what, ours, theirs):
    ratios = [mine / other for mine, other in zip(ours, theirs)]
    print(f"| {what} | {spread(ours)} | {spread(theirs)} | {statistics.median(ratios):.2f} |", flush=True)


def in_turns(rounds, ours, theirs, prepare=lambda: None):
    """Times of both, one after the other; the first round warms up and is not counted."""
    pairs = []
    for number in range(rounds + 1):
        prepare()
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        times = {first: milliseconds(first), second: milliseconds(second)}
        pairs.append((times[ours], times[theirs]))
    return zip(*pairs[1:])


def measure(run, folder, rounds, count, size):
    model = Layers(count, size)
    state = model.state_dict()
    total = count * size * 4 / 2**20
    print(f"\n{total:.0f} MiB in {count:,} tensors, {rounds} rounds, PyTorch {torch.__version__}\n")
    print("| | Sconce, ms | PyTorch, ms | ratio |\n|---|---|---|---|")
    path = folder / "file.pt"

    def change():
        with torch.no_grad():
            for tensor in state.values():
                tensor.uniform_()

    def torch_save():
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def torch_load_into():
        model.load_state_dict(torch.load(path))

    held = {key: torch.empty_like(value) for key, value in state.items()}

    def copy():
        for key, value in state.items():
            held[key].copy_(value)

    copies = []

    def clone():
        copies[:] = [{key: value.clone() for key, value in state.items()}]

    def stall():
        run.save_async(state)

    def settle():
        run.wait()
        copies.clear()
        change()

    row("save what is new: run.save, torch.save + fsync", *in_turns(rounds, lambda: run.save(state), torch_save, change))
    row("save what is there already", *in_turns(rounds, lambda: run.save(state), torch_save))
    row("run.load, torch.load", *in_turns(rounds, run.load, lambda: torch.load(path)))
    row("run.load_into, torch.load + load_state_dict", *in_turns(rounds, lambda: run.load_into(model), torch_load_into))
    row("stall of run.save_async, a copy into memory that is there", *in_turns(rounds, stall, copy, settle))
    row("stall of run.save_async, clone() of all tensors", *in_turns(rounds, stall, clone, settle))
    run.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sconce-bench-") as folder:
        server = sconced.Server(pathlib.Path(folder) / "data").start()
        try:
            os.environ["SCONCE_DISABLE_PROGRESS_BARS"] = "1"
            with sconce.connect(server.target) as client:
                measure(client.run("large"), pathlib.Path(folder), options.rounds, 64, 1 << 20)
                measure(client.run("small"), pathlib.Path(folder), options.rounds, 2000, 5000)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
