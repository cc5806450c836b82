"""Shared by the end-to-end tests: the real programs, PyTorch's own files, and PyTorch as the judge of what comes out."""

import json
import os
import pathlib
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/support"))

import sconced  # noqa: E402
import stubs  # noqa: E402

DATA = SOURCE / "tests/data"


def shared_fixtures():
    """The folder of files by real PyTorch releases that developers and CI have beside the checkout, or None on a user's clone."""
    places = [pathlib.Path(os.environ["SCONCE_SHARED_DIR"])] if os.environ.get("SCONCE_SHARED_DIR") else []
    for place in (*places, SOURCE.parent / "shared"):
        if (place / "fixtures").is_dir():
            return place / "fixtures"
    return None


@pytest.fixture(scope="session")
def stubs_module():
    return stubs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for the tests of a file. They keep out of each other's way by using runs of their own."""
    running = sconced.Server(tmp_path_factory.mktemp("sconced") / "data").start()
    yield running
    assert running.stop() == 0, running.log_tail()


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that a test starts and stops as it likes; what still runs at its end is killed."""
    made = []

    def make(name="data", **options):
        made.append(sconced.Server(tmp_path / name, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture
def rpc(server):
    with_stubs = server.stubs()
    yield with_stubs
    with_stubs.close()


@pytest.fixture
def run(request):
    """A run name that no other test uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:100].strip("-")


@pytest.fixture
def sconce(server):
    return server.sconce


@pytest.fixture
def sconce_json(server):
    def call(*arguments):
        return json.loads(server.sconce(*arguments, "-o", "json").stdout)

    return call
