"""Fixtures of the adapters' tests: a server, or the one at SCONCE_TEST_TARGET where they run in a place that has no server's program."""

import os
import uuid

import pytest
import sconce

# Before the settings of the caller are taken away.
TARGET = os.environ.get("SCONCE_TEST_TARGET")


@pytest.fixture(scope="module")
def target(request):
    """The address of a server that the tests of a file share."""
    return TARGET or request.getfixturevalue("server").target


@pytest.fixture
def run(target, run_name):
    """A run of a project of the test's own, also at a server that has seen the test before: what other tests stored is no duplicate here."""
    with sconce.connect(target) as client:
        yield client.run(f"fits-{uuid.uuid4()}/{run_name}")
