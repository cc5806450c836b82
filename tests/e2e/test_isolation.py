"""Modules that attack, crash, hang or hoard, and workers killed at random: each costs its own requests, and nothing else notices."""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import signal
import threading

import conftest
import grpc
import numpy
import pytest
import sconced
import stubs
import torch
from workers import ask, await_, deploy, infer, needs_torch, workers_of

pytestmark = needs_torch
TORCHSCRIPT = conftest.DATA / "torchscript"
ONE = numpy.ones(3, numpy.float32)
ZERO = numpy.zeros(3, numpy.float32)
CYCLES = int(os.environ.get("SCONCE_MODEL_CYCLES", "8"))


# What follows is TorchScript. Each module answers zeros, and misbehaves for anything else.
class Crashes(torch.nn.Module):
    """Writes far outside its memory, through a constructor that checks nothing."""

    def forward(self, x):
        if float(x.sum()) == 0.0:
            return x
        there = torch.full([1, 1], 1 << 40, dtype=torch.long)
        return torch._sparse_coo_tensor_unsafe(there, torch.ones(1), [4]).to_dense()  # pylint: disable=protected-access


class Loops(torch.nn.Module):
    def forward(self, x):
        while float(x.sum()) != 0.0:
            x = x + 0
        return x


class TakesAtOnce(torch.nn.Module):
    def forward(self, x):
        if float(x.sum()) == 0.0:
            return x
        return torch.ones([1 << 32]).sum() + x


class TakesBitByBit(torch.nn.Module):
    def forward(self, x):
        pile = [x]
        while float(x.sum()) != 0.0:
            pile.append(torch.empty([1 << 24]))
        return torch.stack(pile)


class Reads(torch.nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, x):
        if float(x.sum()) == 0.0:
            return x
        return torch.ops.aten.from_file(self.path, False, 4, dtype=torch.uint8).to(torch.float)


class Writes(Reads):
    def forward(self, x):
        if float(x.sum()) == 0.0:
            return x
        return torch.ops.aten.from_file(self.path, True, 4, dtype=torch.uint8).to(torch.float)


def serve(server, folder, model, module):
    torch.jit.script(module).save(folder / f"{model}.pt")
    deploy(server, model, folder / f"{model}.pt", check=True)


def refused(rpc, model, x=ONE, timeout=120):
    """(code, reason, message) of a request that must fail."""
    with pytest.raises(grpc.RpcError) as error:
        infer(rpc, model, x, timeout=timeout)
    return (*stubs.reason_of(error.value)[:2], error.value.details())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server whose models have little time and memory, and a bystander among them."""
    server = sconced.Server(tmp_path_factory.mktemp("small") / "data", flags=["--worker-timeout", "2s", "--worker-memory-limit", "512MiB"])
    server.start()
    deploy(server, "bystander", TORCHSCRIPT / "scale.pt", check=True)
    yield server
    assert server.stop() == 0, server.log_tail()


@pytest.fixture
def rpc(small):
    with_stubs = small.stubs()
    bystander = set(workers_of(small))
    yield with_stubs
    assert ask(with_stubs, "bystander", ONE).tolist() == [1, 1, 1]
    assert bystander & set(workers_of(small)), "no worker is left of those that were there"
    with_stubs.close()


def test_a_module_cannot_open_or_make_files(small, rpc, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    reader, writer = Reads(str(secret)), Writes(str(tmp_path / "made"))
    assert reader(torch.ones(1)).tolist() == list(b"secr"), "the attack is one"
    serve(small, tmp_path, "reads", reader)
    serve(small, tmp_path, "writes", writer)
    for model in ("reads", "writes"):
        code, reason, message = refused(rpc, model)
        assert (code, reason) == ("INTERNAL", "MODEL_FAILED") and "Operation not permitted" in message, message
        assert "\n" not in message
        assert ask(rpc, model, ZERO).tolist() == [0, 0, 0], "it serves on"
    assert not (tmp_path / "made").exists()
    assert writer(torch.ones(1)) is not None and (tmp_path / "made").exists(), "that attack is one too"


def test_a_worker_has_no_network_and_no_rights(small):
    for worker in workers_of(small):
        status = pathlib.Path(f"/proc/{worker}/status").read_text()
        field = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
        assert field["Seccomp"] == "2", "system calls are not filtered"
        assert field["NoNewPrivs"] == "1"
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
            assert int(field[kind], 16) == 0, kind
        for task in pathlib.Path(f"/proc/{worker}/task").iterdir():
            assert "\nSeccomp:\t2\n" in (task / "status").read_text(), "a thread is outside"
        limits = pathlib.Path(f"/proc/{worker}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0\s", limits)
        assert int(re.search(r"Max data size\s+(\d+)", limits)[1]) < 2 << 30
        if os.geteuid() == 0:
            assert not [fd for fd in descriptors(worker) if fd.startswith(f"{small.data_dir}/")], "it keeps blob files open"
    sealed = [line for line in small.log.read_text().splitlines() if "worker_sealed" in line]
    assert sealed and all("seccomp" in line for line in sealed)


def descriptors(pid):
    names = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(os.readlink(entry))
        except OSError:  # closed since
            continue
    return names


def test_a_worker_is_in_namespaces_of_its_own_where_that_is_allowed(small):
    def allowed(flag):
        child = os.fork()
        if child == 0:
            os._exit(0 if ctypes.CDLL(None).unshare(flag) == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    kinds = {"user": 0x10000000, "net": 0x40000000, "mnt": 0x20000, "ipc": 0x08000000}
    if os.geteuid() != 0:
        pytest.skip("only root may look into what is not dumpable")
    if not allowed(kinds["user"]):
        pytest.skip("this machine allows no user namespaces")
    for worker in workers_of(small):
        for kind in kinds:
            assert os.readlink(f"/proc/{worker}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
        # Not even loopback is up, and the root has nothing in it but descriptors of its own.
        routes = pathlib.Path(f"/proc/{worker}/net/route").read_text().splitlines()
        assert len(routes) <= 1, routes
        assert all(name.isdigit() for name in os.listdir(f"/proc/{worker}/root"))


def test_a_module_that_segfaults_costs_its_own_requests(small, rpc, tmp_path):
    serve(small, tmp_path, "crashes", Crashes())
    code, reason, message = refused(rpc, "crashes")
    assert (code, reason) == ("UNAVAILABLE", "WORKER_DIED") and "signal 11" in message, message
    await_answer(rpc, "crashes")


def test_a_module_that_loops_is_ended_at_its_deadline_and_comes_back(small, rpc, tmp_path):
    serve(small, tmp_path, "loops", Loops())
    code, reason, message = refused(rpc, "loops")
    assert (code, reason) == ("DEADLINE_EXCEEDED", "WORKER_DEADLINE_EXCEEDED") and "2s" in message, message
    await_answer(rpc, "loops")


def await_answer(rpc, model):
    def answers():
        try:
            return ask(rpc, model, ZERO).tolist() == [0, 0, 0]
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            return False

    await_(answers, "it does not come back")


def test_a_module_that_takes_too_much_memory_is_refused_it_and_serves_on(small, rpc, tmp_path):
    for model, module in (("at-once", TakesAtOnce()), ("bit-by-bit", TakesBitByBit())):
        serve(small, tmp_path, model, module)
        before = workers_of(small)
        code, reason, message = refused(rpc, model)
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "WORKER_MEMORY_EXCEEDED"), message
        assert "more memory than a worker may have" in message and "--worker-memory-limit" in message, message
        assert ask(rpc, model, ZERO).tolist() == [0, 0, 0]
        assert workers_of(small) == before, "nothing had to die"


def test_workers_killed_at_random_disturb_neither_pushes_nor_another_model(small, tmp_path):
    others = set(workers_of(small))
    deploy(small, "victim", TORCHSCRIPT / "scale.pt", check=True)
    weights = tmp_path / "weights.pt"
    torch.save({"w": torch.rand(1 << 18)}, weights)
    payload = weights.read_bytes()
    over, failures = threading.Event(), []
    counts = {"bystander": 0, "pushes": 0, "victim": 0, "died": 0}

    def repeat(name, work):
        with_stubs = small.stubs()
        while not over.is_set():
            try:
                work(with_stubs)
                counts[name] += 1
            except grpc.RpcError as error:
                code, reason = stubs.reason_of(error)[:2]
                if name == "victim" and (code, reason) == ("UNAVAILABLE", "WORKER_DIED"):
                    counts["died"] += 1
                    continue
                failures.append((name, code, reason, error.details()))
                return
        with_stubs.close()

    threads = [
        threading.Thread(target=repeat, args=("bystander", lambda s: ask(s, "bystander", ONE))),
        threading.Thread(target=repeat, args=("victim", lambda s: ask(s, "victim", ONE))),
        threading.Thread(target=repeat, args=("victim", lambda s: ask(s, "victim", ONE))),
        threading.Thread(target=repeat, args=("pushes", lambda s: s.import_file("under-fire", payload))),
    ]
    for thread in threads:
        thread.start()
    dice = random.Random(5)
    killed = 0
    while killed < 5 and not failures:
        at = dict(counts)
        moved = lambda: failures or all(counts[k] > at[k] for k in ("bystander", "pushes", "victim"))  # noqa: E731
        await_(moved, f"not all go on: {counts} after {at}", seconds=120)
        for worker in set(workers_of(small)) - others:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(worker, dice.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
                killed += 1
    at = dict(counts)
    await_(lambda: failures or all(counts[k] > at[k] for k in ("bystander", "pushes", "victim")), f"not all go on: {counts}", seconds=120)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert counts["died"] > 0
    assert others <= set(workers_of(small)), "a worker died that nobody killed"


def test_loading_and_unloading_leaves_nothing_behind(new_server):
    server = new_server().start()
    rpc = server.stubs()

    def cycle(n):
        for _ in range(n):
            deploy(server, "fleeting", TORCHSCRIPT / "scale.pt", check=True)
            assert ask(rpc, "fleeting", ONE).tolist() == [1, 1, 1]
            server.sconce("model", "rm", "fleeting")

    def state():
        process = pathlib.Path(f"/proc/{server.process.pid}")
        return {what: len(os.listdir(process / what)) for what in ("task", "fd")}

    def gone():
        return not workers_of(server)

    cycle(5)  # what is kept for good is taken now
    await_(gone, "a worker is left")
    before, settled = server.own_memory_bytes(), state()
    cycle(CYCLES)
    await_(gone, "a worker is left")
    await_(lambda: all(state()[what] <= settled[what] + 2 for what in settled), f"{state()} after {settled}")
    grown = server.own_memory_bytes() - before
    assert grown < (4 << 20) + CYCLES * (16 << 10), f"{grown >> 10} KiB more after {CYCLES} cycles"
    rpc.close()
    assert server.stop() == 0
