"""Run.save_async against the real server: what is saved is what was there when it was called, whatever happens afterwards."""

import copy
import os
import subprocess
import sys
import threading

import pytest
import sconce
from between import Between
from conftest import SOURCE
from sconce._background import Background

torch = pytest.importorskip("torch")

from same_values import assert_same  # noqa: E402  pylint: disable=wrong-import-position

ROUNDS = 25


@pytest.fixture
def run(server, run_name):
    with sconce.connect(server.target) as client:
        yield client.run(run_name)


@pytest.fixture
def gate(server):
    """A way to the server that holds uploads back until it is opened, and lists the calls."""
    between = Between(server.target)
    between.opened = threading.Event()
    between.calls = []

    def on_call(method, _):
        between.calls.append(method.rpartition("/")[2])
        if method.endswith("UploadChunks"):
            assert between.opened.wait(120)

    between.on_call = on_call
    yield between
    between.opened.set()
    between.close()


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_right_after_it_never_leak_in(run, name):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(300, 700), torch.nn.BatchNorm1d(700), torch.nn.Linear(700, 300))
    optimizer = OPTIMIZERS[name](model.parameters())
    x = torch.rand(8, 300)

    def step():
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()

    step()
    expected, futures = [], []
    for number in range(ROUNDS):
        checkpoint = {"step": number, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        expected.append(copy.deepcopy(checkpoint))
        futures.append(run.save_async(checkpoint, metrics={"loss": 1.0 / (number + 1)}))
        for _ in range(3):
            step()
    run.wait()
    assert [future.result().step for future in futures] == list(range(ROUNDS))
    for future, saved in zip(futures, expected):
        assert_same(run.load(future.result().version), saved)


def test_what_is_not_a_tensor_is_of_that_moment_too(run, gate):
    with sconce.connect(gate.target) as client:
        checkpoint = {"history": [1, 2], "w": torch.zeros(5), "big": torch.zeros(1000)}
        labels = {"a": "1"}
        future = client.run(run.name).save_async(checkpoint, labels=labels, aliases=["stable"])
        assert not future.done() and "under way" in repr(future)
        checkpoint["history"].append(3)
        checkpoint["w"].fill_(1)
        checkpoint["big"].fill_(1)
        labels["a"] = "2"
        gate.opened.set()
        info = future.result(60)
    assert (info.labels, info.aliases, repr(future)) == ({"a": "1"}, ("stable",), f"<sconce.SaveFuture of {run.name.rpartition('/')[2]}: saved as {info.ref}>")
    assert info.uploaded_bytes == 4000
    assert_same(run.load("stable"), {"history": [1, 2], "w": torch.zeros(5), "big": torch.zeros(1000)})


def test_one_at_a_time(run, gate):
    """The next one waits, also one that is not asynchronous: the copy of the first is gone before the second is made."""
    with sconce.connect(gate.target) as client:
        mine = client.run(run.name)
        first = mine.save_async({"n": 1, "w": torch.rand(1000)})
        with pytest.raises(TimeoutError):
            first.result(0.01)
        with pytest.raises(TimeoutError):
            client.wait(0.01)
        second = []
        others = [threading.Thread(target=lambda save=save: second.append(save({"n": 2, "w": torch.rand(1000)}))) for save in (mine.save_async, mine.save)]
        for other in others:
            other.start()
        gate.opened.set()
        for other in others:
            other.join(60)
        client.wait()
        assert first.result().version == 1 and len(second) == 2
    calls = [call for call in gate.calls if call in ("BeginUpload", "CommitUpload")]
    assert calls[:2] == ["BeginUpload", "CommitUpload"], "nothing of the second before the first is over"
    assert sorted(version.version for version in run.list()) == [1, 2, 3]


CONFLICT = {"loss": 0.5}, {"loss": 0.25}  # an object and metrics that the server refuses


@pytest.mark.parametrize("how", ["save", "save_async", "wait", "close"])
def test_an_error_is_told_by_the_next_call_and_once(server, run_name, how):
    client = sconce.connect(server.target)
    run = client.run(run_name)
    future = run.save_async(CONFLICT[0], metrics=CONFLICT[1])
    calls = {"save": lambda: run.save({}), "save_async": lambda: run.save_async({}), "wait": run.wait, "close": client.close}
    with pytest.raises(sconce.InvalidArgumentError) as error:
        calls[how]()
    assert error.value.reason == "ATTRIBUTE_CONFLICT"
    if how != "close":
        with pytest.raises(sconce.NotFoundError):
            run.info()  # nothing was saved
        assert run.save_async({}).result(60).version == 1
    client.close()
    with pytest.raises(sconce.InvalidArgumentError):
        future.result()


def test_an_error_that_was_seen_is_not_told_again(run):
    future = run.save_async(CONFLICT[0], metrics=CONFLICT[1])
    seen = threading.Event()
    future.add_done_callback(lambda _: seen.set())
    assert future.exception(60).reason == "ATTRIBUTE_CONFLICT" and "ATTRIBUTE_CONFLICT" in repr(future) and seen.wait(60)
    run.wait()
    run.save({})


def test_what_cannot_be_stored_is_told_at_once(run):
    with pytest.raises(sconce.InvalidArgumentError, match="/model"):
        run.save_async({"model": torch.nn.Linear(2, 2)})
    with pytest.raises(sconce.InvalidArgumentError, match="alias"):
        run.save_async({}, aliases=["latest"])
    run.wait()


def test_the_caller_is_not_kept_by_the_thread_that_saves():
    """Which begins when the caller leaves: it would take the interpreter's lock from it."""
    background, begun = Background(), threading.Event()
    with background.turn():
        future = background.start("a test", lambda _: begun.set())
        assert not begun.wait(0.2) and not future.done()
    assert begun.wait(60) and future.result(60) is None


def test_a_caller_that_fails_after_its_start_lets_it_begin():
    background = Background()
    with pytest.raises(ZeroDivisionError):
        with background.turn():
            future = background.start("a test", lambda _: 1)
            raise ZeroDivisionError
    assert future.result(60) == 1


def test_an_error_of_the_block_is_not_hidden_by_that_of_a_save(server, run_name):
    with pytest.raises(ZeroDivisionError):
        with sconce.connect(server.target) as client:
            client.run(run_name).save_async(CONFLICT[0], metrics=CONFLICT[1])
            raise ZeroDivisionError
    with pytest.raises(sconce.InvalidArgumentError):
        with sconce.connect(server.target) as client:
            client.run(run_name).save_async(CONFLICT[0], metrics=CONFLICT[1])


# The end of a process


def process(code, target, run_name):
    program = f"import sys\nsys.path.insert(0, {str(SOURCE / 'client/python')!r})\nimport torch, sconce\n" + code
    command = [sys.executable, "-W", "ignore", "-c", program, target, run_name]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(120, started.kill)  # a process that hangs fails its test, and not all of them
    watchdog.daemon = True
    watchdog.start()
    return started


SAVES_AND_ENDS = """
run = sconce.connect(sys.argv[1]).run(sys.argv[2])
run.save_async({"w": torch.arange(3 << 20), "aliased": 1}, step=7, aliases=["last"])
"""


def test_a_process_ends_when_its_save_is_over(run, run_name, gate):
    one = process(SAVES_AND_ENDS, gate.target, run_name)
    line = next(line for line in one.stderr if line.startswith("sconce"))
    assert line == f"sconce: this process ends when {run_name} (step 7) is saved; 0 of 24 MiB are\n"
    gate.opened.set()
    rest = one.communicate(timeout=120)[1]
    assert one.returncode == 0 and "sconce" not in rest and "Error" not in rest, rest
    assert torch.equal(run.load("last")["w"], torch.arange(3 << 20))


def test_a_quick_end_says_nothing(run, server, run_name):
    one = process(SAVES_AND_ENDS, server.target, run_name)
    lines = one.communicate(timeout=120)[1]
    assert one.returncode == 0 and "NOT saved" not in lines and run.get("last").step == 7


@pytest.mark.parametrize("seen", [False, True])
def test_a_process_that_ends_says_what_is_lost(server, run_name, seen):
    code = f"""
run = sconce.connect(sys.argv[1]).run(sys.argv[2])
future = run.save_async({CONFLICT[0]}, metrics={CONFLICT[1]}, step=7)
if {seen}: future.exception()
"""
    lines = process(code, server.target, run_name).communicate(timeout=120)[1]
    assert (f"sconce: NOT saved: {run_name} (step 7): " in lines) is not seen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_leaves_the_save_with_the_parent(run, run_name, gate, forks):
    code = """
import os
client = sconce.connect(sys.argv[1])
run = client.run(sys.argv[2])
future = run.save_async({"w": torch.arange(3 << 20)}, step=7)
child = os.fork()
if child == 0:
    try:
        future.result()
    except RuntimeError as error:
        assert "forked" in str(error) and not future.done() and "another process" in repr(future), error
        client.wait()
        run.wait()
        sys.exit(0)
    sys.exit(1)
print("child:", os.waitpid(child, 0)[1], flush=True)
print("saved:", future.result(120).version, flush=True)
"""
    one = process(code, gate.target, run_name)
    assert one.stdout.readline() == "child: 0\n", one.stderr.read()
    gate.opened.set()
    out, err = one.communicate(timeout=120)
    assert out == "saved: 1\n" and one.returncode == 0 and "sconce" not in err, err
    assert torch.equal(run.load()["w"], torch.arange(3 << 20))


def test_a_server_that_restarts_meanwhile_is_waited_for(new_server, run_name):
    server = new_server()
    server.start()
    target = server.target
    server.flags += ["--listen", target]
    with sconce.connect(target) as client:
        run = client.run(run_name)
        run.save({})
        server.kill()
        value = torch.rand(1 << 20)
        future = run.save_async({"w": value})
        value.zero_()
        assert not future.done()
        server.start()
        assert future.result(120).version == 2 and run.load()["w"].abs().sum() > 0
    assert server.stop() == 0
