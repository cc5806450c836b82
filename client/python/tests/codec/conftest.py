"""Fixtures of the codec's tests, beside those of all tests of the Python client."""

import pytest

from codec_support import Transfer


@pytest.fixture
def transfer(server):
    one = Transfer(server.target)
    yield one
    one.channel.close()
