"""Who is told of progress, and when there is a bar."""

import importlib.util
import io
import sys
import types

import pytest
from sconce import _progress


tqdm_is_here = pytest.mark.skipif(importlib.util.find_spec("tqdm") is None, reason="no tqdm here")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def look(monkeypatch):
    """Somebody looks. To be called by the test itself: pytest's capture sets stderr anew when a test begins."""

    def begin():
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        return sys.stderr

    return begin


def bar_of(wanted):
    with _progress.reporting(wanted, "r@1") as report:
        if report is not None:
            report(5 << 20, 10 << 20)
        return report is not None


def test_a_callable_gets_the_numbers():
    seen = []
    with _progress.reporting(lambda *at: seen.append(at), "r@1") as report:
        report(1, 2)
    assert seen == [(1, 2)]


@tqdm_is_here
def test_a_bar_where_somebody_looks(look):
    terminal = look()
    assert bar_of(None)
    assert "r@1:  50%" in terminal.getvalue() and "5.00M/10.0M" in terminal.getvalue()


def test_none_in_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not bar_of(None)
    monkeypatch.setattr(sys, "stderr", None)
    assert not bar_of(None)


@tqdm_is_here
def test_none_when_it_is_not_wanted(look, monkeypatch):
    terminal = look()
    assert bar_of(None)
    terminal.truncate(0)
    terminal.seek(0)
    assert not bar_of(False)
    monkeypatch.setenv("SCONCE_DISABLE_PROGRESS_BARS", "1")
    assert not bar_of(None)
    assert terminal.getvalue() == ""


@tqdm_is_here
def test_none_in_other_ranks(look, monkeypatch):
    look()
    monkeypatch.setenv("RANK", "3")
    assert not bar_of(None)
    monkeypatch.setenv("RANK", "0")
    assert bar_of(None)
    distributed = types.SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(distributed=distributed))
    assert not bar_of(None)


def test_none_without_tqdm(look, monkeypatch):
    look()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert not bar_of(None) and not bar_of(True)
