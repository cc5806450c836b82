"""Shared by the tests of the Python client: the package from the source tree, and the real server where it is built."""

import os
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(SOURCE / "client/python"))
sys.path.insert(0, str(SOURCE / "tests/support"))

import sconced  # noqa: E402  pylint: disable=wrong-import-position


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.testscollected == 0:
        session.exitstatus = 77  # the whole file is skipped, and says why: what ctest knows as skipped


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SCONCE_") and name not in ("SCONCE_BIN_DIR", "SCONCE_SOURCE_DIR")]:
        monkeypatch.delenv(name)


def need_server():
    if not (sconced.BIN / "sconced").exists():
        pytest.skip(f"no sconced in {sconced.BIN}: build it (scripts/build.sh release), or say where it is with SCONCE_BIN_DIR")


_FORK_AFTER_A_CALL = """
import os, sys
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # as the package has it with releases that are this old
import grpc
channel = grpc.insecure_channel(sys.argv[1])
try:
    channel.unary_unary("/a.B/C")(b"")
except grpc.RpcError:
    pass
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def forks(server):
    """Skips where gRPC alone, without this package, hangs at a fork after a call: the 1.51 of Debian 13 and of testing does, that of Debian 12 does not."""
    try:
        subprocess.run([sys.executable, "-c", _FORK_AFTER_A_CALL, server.target], check=True, timeout=30)
    except subprocess.TimeoutExpired:
        pytest.skip("gRPC hangs here at a fork after a call, whoever calls: spawn processes, or use a newer grpcio")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for the tests of a file, which use runs of their own."""
    need_server()
    running = sconced.Server(tmp_path_factory.mktemp("sconced") / "data").start()
    yield running
    assert running.stop() == 0, running.log_tail()


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that a test starts and stops as it likes; what still runs at its end is killed."""
    need_server()
    made = []

    def make(name="data", **options):
        made.append(sconced.Server(tmp_path / name, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture
def run_name(request):
    """A run that no other test of the file uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:100].strip("-")
