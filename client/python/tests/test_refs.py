"""Refs as people type them."""

import pytest
import sconce
from sconce import _refs

RUN = "projects/default/runs/r"


@pytest.mark.parametrize(
    "text, full, target",
    [
        ("r", f"{RUN}/checkpoints/latest", ""),
        ("r@best", f"{RUN}/checkpoints/best", ""),
        ("r@12", f"{RUN}/checkpoints/12", ""),
        ("p/r@a-b_c", "projects/p/runs/r/checkpoints/a-b_c", ""),
        (RUN, f"{RUN}/checkpoints/latest", ""),
        (f"{RUN}/checkpoints/7", f"{RUN}/checkpoints/7", ""),
        ("sconce://h/r", f"{RUN}/checkpoints/latest", "h:7433"),
        ("sconce://h:1/p/r@best", "projects/p/runs/r/checkpoints/best", "h:1"),
        ("sconce://[::1]/r", f"{RUN}/checkpoints/latest", "[::1]:7433"),
    ],
)
def test_what_is_a_ref(text, full, target):
    ref = _refs.parse(text)
    assert (ref.checkpoint_name, ref.target) == (full, target)
    assert _refs.parse(str(ref)).checkpoint_name == full


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "NAME_INVALID"),
        ("/r", "NAME_INVALID"),
        ("a/b/c", "NAME_INVALID"),
        ("..", "NAME_INVALID"),
        ("r@", "SELECTOR_INVALID"),
        ("r@0", "SELECTOR_INVALID"),
        ("r@007", "SELECTOR_INVALID"),
        ("r@9223372036854775808", "SELECTOR_INVALID"),
        ("r@v3", "SELECTOR_INVALID"),
        ("r@Best", "SELECTOR_INVALID"),
        ("r@a@b", "SELECTOR_INVALID"),
        ("projects/p/run/r", "NAME_INVALID"),
        ("projects/p/runs/r/checkpoints/x y", "SELECTOR_INVALID"),
        ("r\n", "NAME_INVALID"),
        ("sconce://h", "NAME_INVALID"),
        ("sconce:///r", "NAME_INVALID"),
        ("r\u0662", "NAME_INVALID"),
    ],
)
def test_what_is_none(text, reason):
    with pytest.raises(sconce.InvalidArgumentError) as error:
        _refs.parse(text)
    assert error.value.reason == reason


def test_the_command_line_tool_has_the_same_rules(server):
    """The same sentences for the same mistakes."""
    for text in ("a/b/c", "..", "r@0", "r@v3", "r@Best", "x" * 129):
        with pytest.raises(ValueError) as error:
            _refs.parse(text)
        result = server.sconce("show", text, check=False)
        assert result.returncode != 0 and str(error.value) in result.stderr


def test_a_run_has_no_selector():
    assert _refs.parse_run("p/r").run_name == "projects/p/runs/r"
    with pytest.raises(sconce.InvalidArgumentError, match="takes a run, not a version of it: p/r"):
        _refs.parse_run("p/r@best")


def test_names_of_aliases():
    assert _refs.check_alias("stable") == "stable"
    for text in ("latest", "best", "v1", "12", "Stable", "", "a" * 64):
        with pytest.raises(sconce.InvalidArgumentError, match="alias .* is not valid"):
            _refs.check_alias(text)
