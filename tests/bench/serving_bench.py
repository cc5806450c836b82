#!/usr/bin/python3
"""What serving a model through sconced costs, beside the least it could cost, beside servers in Python, with batches, and while versions are swapped.

    serving_bench.py [SECTION ...]        of: overhead batching peers swaps; all of them if none is named
    serving_bench.py --rounds N --swaps N

Programs of build/bin (SCONCE_BIN_DIR) and build/tests (SCONCE_BENCH_DIR); a store in $TMPDIR. What is compared is measured in turns, in one run. Times are
microseconds; a number in brackets is the spread over the rounds. Never fails for a time; a call that fails or a wrong answer ends it.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

import torch

import serving_models
import serving_parts
import serving_peers
import serving_swaps
from serving_parts import Program, Serving, busy, load, row, spread, table

SECTIONS = {}


def section(function):
    SECTIONS[function.__name__] = function
    return function


def prepare(folder, module, name, rows=1):
    """Saves the module, and the inputs and answers of 64 callers; gives serving_load's options."""
    torch.manual_seed(1)
    x = torch.rand(64, serving_models.INPUTS)
    with torch.inference_mode():
        y = module.eval()(x)
    serving_models.save_module(module, folder / f"{name}.pt")
    inputs = serving_models.write_floats(folder / f"{name}.in", x)
    answers = serving_models.write_floats(folder / f"{name}.out", y)
    return ["--input", inputs, "--expect", answers, "--shape", f"{rows},{serving_models.INPUTS}"]


@section
def overhead(serving, options):
    """One caller, one request at a time."""
    print(f"\n## Overhead: ModelInfer beside the bare forward() and an empty call of the same bytes; {options.rounds} rounds of 1,000; {busy()}\n")
    print("The empty call is shown a second time with a process that sends the bytes back: what any model behind a wall costs. It is not in the ratio.\n")
    columns = ["empty call p50", "through a process", "ModelInfer p50", "ModelInfer p99"]
    table("model", "forward() p50", *columns, "ratio of p50s, at most 1.3")
    modules = (("scale", serving_models.Scale(), serving_models.INPUTS), ("mlp", serving_models.Mlp(), serving_models.CLASSES))
    for name, module, outputs in (*modules, ("encoder", serving_models.Encoder(), serving_models.CLASSES)):
        asked = prepare(serving.folder, module, name)
        serving.push(name, module.state_dict())
        serving.deploy(name, name, serving.folder / f"{name}.pt")
        shape = f"1,{serving_models.INPUTS}"
        floor = Program(serving_parts.PROGRAMS / "serving_floor", serving.folder / f"{name}.pt", serving.folder / f"{name}.in", shape, outputs)
        rounds = []
        for _ in range(options.rounds + 1):
            rounds.append(
                (
                    floor.ask(1000),
                    load(floor.target, name, *asked[:2], "--shape", shape, "--calls", 1000),
                    load(floor.target, "elsewhere", *asked[:2], "--shape", shape, "--calls", 1000),
                    load(serving.target, name, *asked, "--calls", 1000),
                )
            )
        floor.stop()
        rounds = rounds[1:]  # the first warms up
        ratios = [ours["p50"] / (forward["p50"] + empty["p50"]) for forward, empty, _, ours in rounds]
        columns = [[one[i][what] for one in rounds] for i, what in ((0, "p50"), (1, "p50"), (2, "p50"), (3, "p50"), (3, "p99"))]
        row(name, *map(spread, columns), spread(ratios, 2))


@section
def batching(serving, options):
    """64 callers at once, in a closed loop."""
    callers, calls = 64, 6000
    print(f"\n## Throughput: {callers} callers, {options.rounds} rounds of {calls:,} calls; {busy()}\n")
    table("MLP 256-512-512-10", "calls a second", "p50", "p99", "of unbatched, at least 3")
    asked = prepare(serving.folder, serving_models.Mlp(), "batch")
    serving.push("batch", torch.jit.load(str(serving.folder / "batch.pt")).state_dict())
    ways = {"unbatched": {}, "max_batch_size 64": {"batching": {"max_batch_size": 64}}}
    for number, more in enumerate(ways.values()):
        serving.deploy(f"batch{number}", "batch", serving.folder / "batch.pt", **more)
    rounds = []
    for _ in range(options.rounds + 1):
        rounds.append([load(serving.target, f"batch{i}", *asked, "--callers", callers, "--calls", calls) for i in range(len(ways))])
    rounds = rounds[1:]
    for i, name in enumerate(ways):
        rates = [one[i]["calls"] / one[i]["seconds"] for one in rounds]
        ratios = [rate * one[0]["seconds"] / one[0]["calls"] for rate, one in zip(rates, rounds)]
        row(name, spread(rates, 0), spread([one[i]["p50"] for one in rounds]), spread([one[i]["p99"] for one in rounds]), spread(ratios, 2))


@section
def peers(serving, options):
    """The same module elsewhere, asked by the same program. Nobody else has swaps to compare."""
    print(f"\n## Beside other servers: MLP 256-512-512-10, {options.rounds} rounds of 1,000 and 3,000 calls; {busy()}\n")
    batch = 64
    asked = prepare(serving.folder, serving_models.Mlp(), "peer")
    module = serving.folder / "peer.pt"
    serving.push("peer", torch.jit.load(str(module)).state_dict())
    serving.deploy("peer", "peer", module)
    serving.deploy("batches", "peer", module, batching={"max_batch_size": batch})
    others = []
    try:
        for name, server in serving_peers.peers(serving.folder, "peer", module, batch):
            others.append((name, server))
        servers = [("Sconce", serving.target, "peer"), (f"Sconce, max_batch_size {batch}", serving.target, "batches")]
        servers += [(name, server.target, "peer") for name, server in others]
        rounds = []
        for _ in range(options.rounds + 1):
            rounds.append(
                [
                    (load(target, model, *asked, "--calls", 1000), load(target, model, *asked, "--callers", 64, "--calls", 3000))
                    for _, target, model in servers
                ]
            )
    finally:
        for _, server in others:
            server.stop()
    table("server", "1 caller: p50", "p99", "64 callers: calls a second", "p50", "p99")
    for i, (name, _, _) in enumerate(servers):
        alone, together = zip(*[one[i] for one in rounds[1:]])
        rates = spread([one["calls"] / one["seconds"] for one in together], 0)
        row(name, *[spread([one[key] for one in alone]) for key in ("p50", "p99")], rates, *[spread([one[key] for one in together]) for key in ("p50", "p99")])


@section
def swaps(serving, options):
    serving_swaps.run(serving, options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=500, help="calls a second while versions are swapped")
    parser.add_argument("--every", type=float, default=0.5, help="seconds from one swap to the next")
    parser.add_argument("--quiet", type=float, default=20, help="seconds of each phase without swaps")
    options = parser.parse_args()
    for name in options.sections or SECTIONS:
        with tempfile.TemporaryDirectory(prefix="sconce-bench-") as folder:
            serving = Serving(pathlib.Path(folder))
            try:
                SECTIONS[name](serving, options)
            except serving_parts.Answers as error:
                sys.exit(f"serving_bench: {error}\n{serving.server.log_tail()}")
            finally:
                serving.stop()


if __name__ == "__main__":
    main()
