"""Run.begin against the real server: versions of several parts, from one process and from several."""

import collections
import concurrent.futures
import multiprocessing
import subprocess
import sys
import threading

import pytest
import sconce
from conftest import SOURCE
from sconce import _upload

torch = pytest.importorskip("torch")


@pytest.fixture
def run(server, run_name):
    with sconce.connect(server.target) as client:
        yield client.run(run_name)


def test_one_version_of_several_values(run):
    weight = torch.rand(1000)
    with run.begin(step=3, metrics={"loss": 0.5}, labels={"a": "b"}, aliases=["stable"]) as version:
        version.put("model", {"w": weight})
        version.put("optimizer", {"w": weight, "lr": 0.1})
        with pytest.raises(ValueError):
            version.info  # pylint: disable=pointless-statement
        with pytest.raises(ValueError, match="before"):
            version.put("model", {})
    info = version.info
    assert (info.version, info.step, info.metrics, info.aliases, info.uploaded_bytes) == (1, 3, {"loss": 0.5}, ("stable",), 4000)
    loaded = run.load("stable")
    assert list(loaded) == ["model", "optimizer"] and torch.equal(loaded["model"]["w"], weight)
    assert loaded["model"]["w"].data_ptr() == loaded["optimizer"]["w"].data_ptr(), "one part: it is shared still"
    with pytest.raises(ValueError):
        version.put("more", 1)


def test_parts_of_one_process_go_at_once(run):
    value = torch.zeros(1000)
    with run.begin(parts=3) as version:
        for number in range(3):
            value.fill_(number)
            version.put(f"part{number}", value)
        with pytest.raises(ValueError, match="more than the 3"):
            version.put("part3", value)
    assert version.info.uploaded_bytes == 12000
    assert {key: int(tensor[7]) for key, tensor in run.load().items()} == {"part0": 0, "part1": 1, "part2": 2}


def test_what_raises_leaves_nothing(run, server, run_name):
    with pytest.raises(ZeroDivisionError):
        with run.begin(upload_id="u") as version:
            version.put("w", torch.rand(1000))
            raise ZeroDivisionError
    with pytest.raises(sconce.InvalidArgumentError, match="1 of 2 parts"):
        with run.begin(upload_id="v", parts=2) as version:
            version.put("w", torch.rand(1000))
    with pytest.raises(sconce.InvalidArgumentError, match="/model"):
        with run.begin(upload_id="w") as version:
            version.put("model", torch.nn.Linear(2, 2))
    for upload in "uvw":
        shown = server.sconce("upload", "show", f"{run_name}@{upload}", check=False)
        assert "UPLOAD_NOT_FOUND" in shown.stderr, shown.stderr
    with pytest.raises(sconce.NotFoundError):
        run.get()


@pytest.mark.parametrize("wrong", [{"parts": 0}, {"parts": 2, "part": 2, "upload_id": "u"}, {"parts": 2, "part": -1, "upload_id": "u"}, {"parts": 2, "part": 0}])
def test_what_cannot_be_meant(run, wrong):
    with pytest.raises(sconce.InvalidArgumentError):
        run.begin(**wrong)


def rank(target, run_name, part, parts, fails, answers, timeout=120.0):
    """One of several processes."""
    with sconce.connect(target) as client:
        try:
            with client.run(run_name).begin(step=5, parts=parts, part=part, upload_id="job", timeout=timeout, aliases=["last"]) as version:
                version.put(f"rank{part}", {"w": torch.full((5000,), float(part))})
                version.put("shared", collections.OrderedDict([(f"from{part}", torch.rand(500))]))
                if fails == part:
                    raise ZeroDivisionError
            answers.put((part, version.info.version))
        except Exception as error:  # pylint: disable=broad-except
            answers.put((part, f"{type(error).__name__} {getattr(error, 'reason', '')}: {error}"))


def ranks(server, run_name, parts, fails=None, numbers=None, **options):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    numbers = range(parts) if numbers is None else numbers
    processes = [context.Process(target=rank, args=(server.target, run_name, number, parts, fails, answers), kwargs=options) for number in numbers]
    for process in processes:
        process.start()
    told = dict(answers.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return told


def test_ranks_of_one_job_get_one_version(run, server, run_name):
    assert ranks(server, run_name, 3) == {0: 1, 1: 1, 2: 1}
    loaded = run.load("last")
    assert sorted(loaded) == ["rank0", "rank1", "rank2", "shared"] and sorted(loaded["shared"]) == ["from0", "from1", "from2"]
    assert all(torch.equal(loaded[f"rank{number}"]["w"], torch.full((5000,), float(number))) for number in range(3))
    assert run.get().step == 5 and [version.version for version in run.list()] == [1]


def test_a_rank_that_fails_takes_the_others_with_it(run, monkeypatch):
    """Rank 1 begins when rank 0 waits for it already."""
    waits = threading.Event()
    told = []

    def first():
        with pytest.raises(sconce.NotFoundError) as error:
            with run.begin(parts=2, part=0, upload_id="job") as version:
                version.put("a", torch.rand(1000))
        told.append(error.value)

    commit = _upload.commit

    def told_commit(*arguments):
        try:
            return commit(*arguments)
        finally:
            waits.set()

    monkeypatch.setattr(_upload, "commit", told_commit)
    thread = threading.Thread(target=first)
    thread.start()
    assert waits.wait(60)
    with pytest.raises(ZeroDivisionError):
        with run.begin(parts=2, part=1, upload_id="job"):
            raise ZeroDivisionError
    thread.join(60)
    assert told[0].reason == "UPLOAD_NOT_FOUND" and "another rank failed" in str(told[0])
    with pytest.raises(sconce.NotFoundError):
        run.get()


def test_a_rank_that_comes_after_its_upload_was_aborted_is_told_so(run):
    """It cannot know whether it is late, or the first one of the job that was started again: it goes on, and says what it saw."""
    with pytest.raises(ZeroDivisionError):
        with run.begin(parts=2, part=0, upload_id="job"):
            raise ZeroDivisionError
    with pytest.warns(RuntimeWarning, match="upload job of .* was aborted before this rank came"):
        with pytest.raises(sconce.DeadlineError, match="was aborted before this rank came") as error:
            put_part(run, 1, {"b": torch.rand(1000)}, timeout=0.0)
    assert error.value.reason == "UPLOAD_INCOMPLETE"


def test_a_job_that_is_started_again_after_it_was_aborted_saves(run, recwarn):
    with pytest.raises(ZeroDivisionError):
        with run.begin(parts=2, part=0, upload_id="job"):
            raise ZeroDivisionError
    with concurrent.futures.ThreadPoolExecutor() as pool:
        infos = list(pool.map(lambda part: put_part(run, part, {f"key{part}": torch.rand(1000)}), range(2)))
    assert [info.version for info in infos] == [1, 1] and sorted(run.load()) == ["key0", "key1"]
    assert any("was aborted before this rank came" in str(warning.message) for warning in recwarn)


def test_a_rank_that_never_comes_is_named(server, run_name):
    told = ranks(server, run_name, 3, numbers=[0, 2], timeout=0.5)
    for answer in told.values():
        assert answer.startswith("DeadlineError UPLOAD_INCOMPLETE: the other ranks have not done their parts within 0.5 s") and "1" in answer


def test_a_job_that_was_killed_goes_on_with_the_same_upload(run, server, run_name):
    """Rank 1 is killed when its part is with the server; started again, it sends nothing of it."""
    code = """
import os, signal, sys
import sconce, torch
run = sconce.connect(sys.argv[1]).run(sys.argv[2])
from sconce import _upload
_upload.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with run.begin(parts=2, part=1, upload_id="job") as version:
    version.put("b", torch.arange(100000))
"""
    killed = subprocess.run([sys.executable, "-c", code, server.target, run_name], cwd=SOURCE / "client/python", check=False, timeout=120)
    assert killed.returncode == -9
    other = threading.Thread(target=put_part, args=(run, 0, {"a": torch.rand(1000)}))
    other.start()
    assert put_part(run, 1, {"b": torch.arange(100000)}).uploaded_bytes == 0
    other.join(60)
    assert sorted(run.load()) == ["a", "b"]


def put_part(run, part, values, **options):
    with run.begin(parts=2, part=part, upload_id="job", **options) as version:
        for name, value in values.items():
            version.put(name, value)
    return version.info


def test_parts_that_do_not_fit(run):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [pool.submit(put_part, run, part, {"same": torch.rand(1000)}) for part in range(2)]
        for future in futures:
            assert future.exception(60).reason == "PARTS_OVERLAP"


def test_ranks_that_say_different_things(run):
    with pytest.raises(ZeroDivisionError):
        with run.begin(parts=2, part=0, upload_id="job", step=1):
            with pytest.raises(sconce.AlreadyExistsError) as error:
                with run.begin(parts=2, part=1, upload_id="job", step=2):
                    pass
            raise ZeroDivisionError
    assert error.value.reason == "UPLOAD_ALREADY_EXISTS"
