#!/usr/bin/python3
"""The Python package beside PyTorch's own functions for the same tensors, in turns: run.save against torch.save and fsync, run.load against torch.load,
run.load_into against torch.load and load_state_dict, and how long run.save_async keeps its caller against plain copies of the same state: its tree with
clone() of each tensor, copy.deepcopy(), and copy_() into tensors that are there already.

    python_client_bench.py [--rounds N] [--only stall]          with the server of SCONCE_BIN_DIR (default: build/bin)

Server, client and file are on this machine ($TMPDIR). Medians and the spread in milliseconds, by the clock, and the processor time of this process, which says
more where others keep the machine busy; ratios are the medians of the rounds' own.
"""

import argparse
import copy
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
    """By the clock, and of the processor for all threads of this process."""
    begin, begin_of_processor = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - begin) * 1000, (time.process_time() - begin_of_processor) * 1000


def spread(times):
    clock = [each[0] for each in times]
    return f"{statistics.median(clock):.1f} ({min(clock):.1f} to {max(clock):.1f})"


def row(what, ours, theirs):
    clock, processor = ([mine[which] / max(other[which], 0.001) for mine, other in zip(ours, theirs)] for which in (0, 1))
    used = " to ".join(f"{statistics.median(each[1] for each in times):.1f}" for times in (ours, theirs))
    print(f"| {what} | {spread(ours)} | {spread(theirs)} | {statistics.median(clock):.2f} | {used} | {statistics.median(processor):.2f} |", flush=True)


def in_turns(rounds, ours, theirs, prepare=lambda: None):
    """Times of both, one after the other; the first two rounds warm up and are not counted."""
    pairs = []
    for number in range(rounds + 2):
        prepare()
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        times = {first: milliseconds(first), second: milliseconds(second)}
        pairs.append((times[ours], times[theirs]))
    return zip(*pairs[2:])


def tensors_of(state):
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


def clones(state):
    """What one would write: the same tree with copies of the tensors."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: clones(value) for key, value in state.items()}
    return type(state)(map(clones, state)) if isinstance(state, (list, tuple)) else state


def change(state):
    with torch.no_grad():
        for tensor in tensors_of(state):
            tensor.uniform_()


def title(state, rounds):
    tensors = tensors_of(state)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20
    print(f"\n{total:.0f} MiB in {len(tensors):,} tensors, {rounds} rounds, PyTorch {torch.__version__}\n")
    print("| | Sconce, ms | PyTorch, ms | ratio | processor, ms | ratio |\n|---|---|---|---|---|---|")


def measure_stall(run, rounds, state):
    title(state, rounds)
    tensors = tensors_of(state)
    held = [torch.empty_like(tensor) for tensor in tensors]
    copies = []

    def copy_over():
        with torch.no_grad():
            for mine, tensor in zip(held, tensors):
                mine.copy_(tensor)

    def settle():
        run.wait()
        copies.clear()
        change(state)

    def stall():
        run.save_async(state, progress=False)

    row("stall of run.save_async, a tree of clone()s", *in_turns(rounds, stall, lambda: copies.append(clones(state)), settle))
    row("stall of run.save_async, copy.deepcopy()", *in_turns(rounds, stall, lambda: copies.append(copy.deepcopy(state)), settle))
    row("stall of run.save_async, copy_() into tensors that are there", *in_turns(rounds, stall, copy_over, settle))
    run.wait()


def measure(run, folder, rounds, count, size):
    model = Layers(count, size)
    state = model.state_dict()
    title(state, rounds)
    path = folder / "file.pt"

    def torch_save():
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def torch_load_into():
        model.load_state_dict(torch.load(path))

    row("save what is new: run.save, torch.save + fsync", *in_turns(rounds, lambda: run.save(state), torch_save, lambda: change(state)))
    row("save what is there already", *in_turns(rounds, lambda: run.save(state), torch_save))
    row("run.load, torch.load", *in_turns(rounds, run.load, lambda: torch.load(path)))
    row("run.load_into, torch.load + load_state_dict", *in_turns(rounds, lambda: run.load_into(model), torch_load_into))


def resnet50_training():
    """Model and AdamW's state after a step, with the shapes of a ResNet-50: 161 parameters, 106 buffers, and three tensors of the optimizer for each parameter."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.rand(shape)) for shape in resnet50_shapes()])
    for number, parameter in enumerate(parameter for parameter in model if parameter.dim() == 4):
        for name in ("running_mean", "running_var"):
            model.register_buffer(f"{name}_{number}", torch.rand(parameter.shape[0]))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "step": 1000}


def resnet50_shapes():
    def convolution(outputs, inputs, size):
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]  # with what its batch norm has

    shapes, inputs = convolution(64, 3, 7), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(width, inputs, 1) + convolution(width, width, 3) + convolution(4 * width, width, 1)
            if block == 0:
                shapes += convolution(4 * width, inputs, 1)
            inputs = 4 * width
    return shapes + [(1000, inputs), (1000,)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=["stall", "moves"], help="only the stall of save_async, or only what moves bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sconce-bench-") as folder:
        server = sconced.Server(pathlib.Path(folder) / "data").start()
        try:
            os.environ["SCONCE_DISABLE_PROGRESS_BARS"] = "1"
            with sconce.connect(server.target) as client:
                if options.only != "moves":
                    measure_stall(client.run("stall-large"), options.rounds, {f"layer.{n}": torch.rand(1 << 20) for n in range(64)})
                    measure_stall(client.run("stall-resnet50"), options.rounds, resnet50_training())
                    measure_stall(client.run("stall-small"), options.rounds, {f"layer.{n}": torch.rand(5000) for n in range(2000)})
                if options.only != "stall":
                    measure(client.run("large"), pathlib.Path(folder), options.rounds, 64, 1 << 20)
                    measure(client.run("small"), pathlib.Path(folder), options.rounds, 2000, 5000)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
