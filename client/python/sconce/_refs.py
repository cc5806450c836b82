"""Names as people type them, and full names of the API.

    >>> parse("resnet50")
    Ref(project='default', run='resnet50', selector='', target='')
    >>> parse("vision/resnet50@best").checkpoint_name
    'projects/vision/runs/resnet50/checkpoints/best'
    >>> parse("sconce://gpu-7/vision/resnet50@12").target
    'gpu-7:7433'
    >>> str(parse("projects/default/runs/resnet50/checkpoints/12"))
    'resnet50@12'
    >>> parse("resnet50@v12")
    Traceback (most recent call last):
    sconce._errors.InvalidArgumentError: selector "v12" is not valid: a version is only its number, "12"
"""

from __future__ import annotations

import dataclasses
import re
from typing import List, Mapping

from sconce._errors import SconceError, make_error

DEFAULT_PROJECT = "default"
DEFAULT_PORT = 7433
SCHEME = "sconce://"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ID_RULE = "an id is a letter or digit, then at most 127 letters, digits, '.', '_' or '-'"
_ALIAS_RULE = (
    "an alias is a lower-case letter, then at most 62 lower-case letters, digits, '_' or '-', and not 'latest', 'best' or a 'v' and a number"
)
_FORM = "[project/]run[@selector]"


@dataclasses.dataclass(frozen=True)
class Ref:
    """A run, or a version of it. `selector` is empty when none was given, `target` (HOST:PORT) when the ref did not name the server."""

    project: str
    run: str
    selector: str = ""
    target: str = ""

    @property
    def run_name(self) -> str:
        """`projects/{project}/runs/{run}`."""
        return f"projects/{self.project}/runs/{self.run}"

    @property
    def checkpoint_name(self) -> str:
        """`projects/{project}/runs/{run}/checkpoints/{selector}`, by default `latest`."""
        return f"{self.run_name}/checkpoints/{self.selector or 'latest'}"

    def __str__(self) -> str:
        project = "" if self.project == DEFAULT_PROJECT else f"{self.project}/"
        return f"{project}{self.run}{'@' if self.selector else ''}{self.selector}"


def parse(text: str, project: str = DEFAULT_PROJECT) -> Ref:
    """A ref in any of its forms: `[project/]run[@selector]`, with `sconce://host[:port]/` before it, or a resource name.

    `project` is the one of a ref that names none. InvalidArgumentError: NAME_INVALID, SELECTOR_INVALID.
    """
    if text.startswith(SCHEME):
        host, slash, rest = text[len(SCHEME) :].partition("/")
        if not host or not slash:
            raise _name_error(text, f"{SCHEME}host[:port]/{_FORM}")
        return dataclasses.replace(parse(rest, project), target=complete_target(host))
    slashes = text.count("/")
    if slashes == 3:
        return Ref(*_ids(text, "projects/{project}/runs/{run}"))
    if slashes == 5:
        ref = Ref(*_ids(text, "projects/{project}/runs/{run}/checkpoints/{version}"))
        return dataclasses.replace(ref, selector=check_selector(ref.selector))
    if not text or slashes > 1:
        raise _name_error(text, _FORM)
    path, at, selector = text.partition("@")
    given, _, run = path.rpartition("/")
    ref = Ref(check_id("project", given if "/" in path else project), check_id("run", run))
    return dataclasses.replace(ref, selector=check_selector(selector)) if at else ref


def parse_run(text: str, project: str = DEFAULT_PROJECT) -> Ref:
    """A ref that must be a run's. InvalidArgumentError: NAME_INVALID; ARGUMENT_INVALID for one with a selector."""
    ref = parse(text, project)
    if ref.selector:
        raise invalid("ARGUMENT_INVALID", f"this takes a run, not a version of it: {dataclasses.replace(ref, selector='')}", {"name": text[:200]})
    return ref


def complete_target(target: str) -> str:
    """A server's address with its port.

    >>> complete_target("localhost"), complete_target("[::1]:80"), complete_target("unix:/run/sconce"), complete_target("sconce://gpu-7/")
    ('localhost:7433', '[::1]:80', 'unix:/run/sconce', 'gpu-7:7433')
    """
    if target.startswith(SCHEME):
        target = target[len(SCHEME) :].rstrip("/")
    if target.startswith("unix:") or "//" in target or re.search(r":\d+$", target):
        return target
    return f"{target}:{DEFAULT_PORT}"


def check_id(what: str, text: str) -> str:
    """Returns the id of a project, run or upload when it is one. InvalidArgumentError: NAME_INVALID."""
    if not _ID.fullmatch(text):
        raise invalid("NAME_INVALID", f"{what} id {_quoted(text)} is not valid: {_ID_RULE}", {"part": what, "id": text[:200]})
    return text


def check_alias(text: str) -> str:
    """Returns the name of an alias when it is one. InvalidArgumentError: NAME_INVALID."""
    if not _ALIAS.fullmatch(text) or text in ("latest", "best") or _looks_like_version(text):
        raise invalid("NAME_INVALID", f"alias {_quoted(text)} is not valid: {_ALIAS_RULE}", {"part": "alias", "id": text[:200]})
    return text


def check_selector(text: str) -> str:
    """Returns a version number, `latest`, `best` or alias when it is one. InvalidArgumentError: SELECTOR_INVALID."""
    metadata = {"selector": text[:200]}
    if _is_number(text):
        if text[0] == "0" or int(text) >= 1 << 63:
            raise invalid("SELECTOR_INVALID", f"version {_quoted(text)} is not valid: versions are 1, 2, 3 and so on", metadata)
        return text
    if _looks_like_version(text):
        raise invalid("SELECTOR_INVALID", f"selector {_quoted(text)} is not valid: a version is only its number, {_quoted(text[1:])}", metadata)
    if not _ALIAS.fullmatch(text):
        sentence = "give a version number, 'latest', 'best' or an alias (lower-case letters, digits, '_' and '-')"
        raise invalid("SELECTOR_INVALID", f"selector {_quoted(text)} is not valid: {sentence}", metadata)
    return text


def _ids(name: str, pattern: str) -> List[str]:
    ids = []
    for given, wanted in zip(name.split("/"), pattern.split("/")):
        if wanted.startswith("{"):
            ids.append(given)
        elif given != wanted:
            raise _name_error(name, pattern)
    check_id("project", ids[0])
    check_id("run", ids[1])
    return ids


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _looks_like_version(text: str) -> bool:
    return text.startswith("v") and _is_number(text[1:])


def _quoted(text: str) -> str:
    return f'"{text}"' if len(text) <= 200 else f'"{text[:200]}..." ({len(text)} bytes)'


def _name_error(name: str, form: str) -> SconceError:
    return invalid("NAME_INVALID", f"name {_quoted(name)} does not have the form {form}", {"name": name[:200]})


def invalid(reason: str, message: str, metadata: Mapping[str, str]) -> SconceError:
    """An argument that no state of the server would make right."""
    return make_error("INVALID_ARGUMENT", reason, message, metadata)
