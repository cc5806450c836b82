"""Swaps under constant load: no call fails, no answer mixes two versions, what a request waits, and the memory that 1,000 of them leave behind."""

import pathlib
import re
import statistics
import threading
import time

import serving_models
from serving_parts import Answers, busy, constant_load, models, row, spread, table
from workers import TEMPLATE, processes_of

RUN = "swaps"
MODEL = "swaps"


def memory_kib(server):
    """Of the server, its one worker and what that was copied from: what is theirs alone, and their share of what they map."""
    give_up = time.monotonic() + 30
    while len(processes := processes_of(server)) != 2:
        if time.monotonic() > give_up:
            raise Answers(f"one version serves, with {len(processes)} processes")
        time.sleep(0.05)
    used = {"mapped": 0}
    pids = {"template" if name == TEMPLATE else "worker": pid for pid, name in processes.items()}
    for who, pid in (("server", server.process.pid), *pids.items()):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        shares = {name: int(kib) for name, kib in re.findall(r"^(Pss\w*):\s+(\d+) kB", rollup, re.MULTILINE)}
        used[who] = shares["Pss_Anon"] + shares["Pss_Shmem"]
        used["mapped"] += shares["Pss_File"]
    return used


class Follower:
    """Knows which version serves, from WatchModels."""

    def __init__(self, rpc):
        self.changed = threading.Condition()
        self.serving = 0
        self.others = 0
        self.reason = ""
        self.call = rpc.models.WatchModels(models.WatchModelsRequest())
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        try:
            for model in self.call:
                with self.changed:
                    roles = [one.role for one in model.versions]
                    self.serving = next((one.version for one in model.versions if one.role == models.Model.SERVING), 0)
                    self.others = len(roles) - 1
                    self.reason = model.reason
                    self.changed.notify_all()
        except Exception:  # pylint: disable=broad-exception-caught
            pass  # the call was cancelled

    def wait(self, version):
        with self.changed:
            if not self.changed.wait_for(lambda: self.serving == version and self.others == 0, 60):
                raise Answers(f"version {version} does not serve after a minute, but {self.serving}: {self.reason}")

    def stop(self):
        self.call.cancel()
        self.thread.join()


class Swaps:
    def __init__(self, serving, quiet_seconds):
        self.serving = serving
        self.quiet_seconds = quiet_seconds
        self.module = serving_models.Versioned()
        path = serving_models.save_module(self.module, serving.folder / "versioned.pt")
        ones = serving_models.write_floats(serving.folder / "ones.in", serving_models.ones())
        self.load = ["--input", ones, "--shape", f"1,{serving_models.INPUTS}", "--versions"]
        self.version = 0
        self.push()
        serving.deploy(MODEL, RUN, path, "best", warm_up={"runs": 3}, batching={"max_queue_size": 10_000})
        self.follower = Follower(serving.rpc)
        self.follower.wait(1)

    def push(self):
        """A new version that is the best."""
        state = serving_models.versioned_weights(self.module, self.version + 1)
        self.version = self.serving.push(RUN, state, checkpoint={"metrics": {"loss": 1 / (self.version + 1)}})

    def pin(self, version):
        change = models.UpdateModelRequest(model={"name": f"models/{MODEL}", "pinned_version": version}, update_mask={"paths": ["pinned_version"]})
        self.serving.rpc.models.UpdateModel(change, timeout=60)
        self.follower.wait(version)

    def back_and_forth(self, load, count):
        """Swaps between two versions that are there: what they leave behind is not the store's."""
        with constant_load(self.serving.target, MODEL, *self.load, *load):
            for _ in range(count):
                self.pin(self.version - 1 if self.follower.serving == self.version else self.version)

    def quiet(self, load):
        with constant_load(self.serving.target, MODEL, *self.load, *load) as result:
            time.sleep(self.quiet_seconds)
        return result

    def swap(self, load, count, every):
        took = []
        with constant_load(self.serving.target, MODEL, *self.load, *load) as result:
            begin = time.monotonic()
            for done in range(count):
                since = time.monotonic()
                self.push()
                self.follower.wait(self.version)
                took.append(time.monotonic() - since)
                time.sleep(max(0, begin + (done + 1) * every - time.monotonic()))
        if result["versions"] < min(count, result["calls"] // 10):
            raise Answers(f"after {count} swaps answers came of {result['versions']} versions only")
        result["per_swap"] = statistics.median(took)
        return result

    def phases(self, name, load, count, each, every, remember):
        """`count` swaps, `each` of them in turns with none; one begins `every` seconds, or when the one before is over."""
        rounds = []
        while sum(swaps for _, _, swaps in rounds) < count:
            quiet = self.quiet(load)
            swaps = min(each, count - sum(swaps for _, _, swaps in rounds))
            rounds.append((quiet, self.swap(load, swaps, every), swaps))
            remember(self.version - 1)
        ratios = [{key: swapped[key] / quiet[key] for key in ("p50", "p99")} for quiet, swapped, _ in rounds]
        calls = sum(quiet["calls"] + swapped["calls"] for quiet, swapped, _ in rounds)
        row(
            name,
            count,
            f"{calls:,}",
            f"{statistics.median(one['per_swap'] for _, one, _ in rounds):.2f}",
            *[spread([one[i][key] for one in rounds]) for key in ("p50", "p99") for i in (0, 1)],
            spread([one["p50"] for one in ratios], 2),
            spread([one["p99"] for one in ratios], 2),
        )


def show_memory(memory):
    own = ("server", "worker", "template")
    table("swaps", *own, "mapped", "own beside the first row's, at most 2%")
    first = sum(memory[0][1][which] for which in own)
    for count, used in memory:
        drift = (sum(used[which] for which in own) / first - 1) * 100
        row(count, *[f"{used[which] / 1024:.1f}" for which in (*own, "mapped")], f"{drift:+.1f}%")


def run(serving, options):
    print(
        f"\n## Swaps: the deployment follows `best`, and each version that is pushed is the best; {busy()}\n"
        "\nEvery answer is checked: all weights are of the version it names. MLP 256-128-128-10, one instance, warm-up of 3 runs.\n"
    )
    swaps = Swaps(serving, options.quiet)
    memory = []

    def remember(count):
        memory.append((count, memory_kib(serving.server)))

    columns = ["p50", "p50 while swapping", "p99", "p99 while swapping", "ratio of p50s", "ratio of p99s, at most 1.3"]
    table("load", "swaps", "right answers", "seconds a swap", *columns)
    each = max(1, options.swaps // 10)
    load = ["--rate", options.rate]
    calls = f"{options.rate} calls a second"
    swaps.phases(f"{calls}, a swap every {options.every:g} s", load, options.swaps, each, options.every, remember)
    swaps.phases(f"{calls}, one swap after the other", load, options.swaps, each, 0, lambda _: None)
    swaps.phases("saturated: 8 callers in a closed loop, one after the other", ["--callers", 8], each, max(1, each // 2), 0, lambda _: None)
    print("\nMemory in MiB: what server and worker hold themselves, and their share of what they map, which other processes on the machine change.")
    print("With each swap the store grows by a version, and the catalog keeps what is new in memory, up to 16 MiB:\n")
    show_memory(memory)
    memory.clear()
    for count in range(1, 11):
        swaps.back_and_forth(load, each)
        remember(count * each)
    swaps.follower.stop()
    print("\nThe same between two versions that are there already, under the same load:\n")
    show_memory(memory)
