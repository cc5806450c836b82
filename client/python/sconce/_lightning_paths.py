"""The paths that Lightning gives to checkpoints, and the versions that they mean: a version has its path as a label."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from typing import Dict, Iterator, Optional, Tuple, Union

from sconce import _refs
from sconce._client import Client, connect
from sconce._errors import SconceError, make_error
from sconce._fits import connection_of
from sconce._info import CheckpointInfo
from sconce._run import Run

__all__ = ["LABEL", "Place", "Places", "split_url"]

LABEL = "lightning.path"
_MAX_LABEL_BYTES = 255
_URL = re.compile(r"sconce:/+")  # os.path.normpath leaves one slash of two

PathLike = Union[str, "os.PathLike[str]"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a checkpoint of some path is: in which run, and with which label; or which version, of a ref as sconce://host/run@best."""

    run: Run
    label: str
    selector: str = ""

    def versions(self) -> Iterator[CheckpointInfo]:
        """Those that were saved with this path, newest first. None when the run does not exist."""
        text = self.label.replace("\\", "\\\\").replace('"', '\\"')
        yield from versions_of(self.run, f'labels."{LABEL}" = "{text}"')

    def newest(self) -> Union[int, str]:
        """Which version the path means. NotFoundError (CHECKPOINT_NOT_FOUND)."""
        if self.selector:
            return self.selector
        for info in self.versions():
            return info.version
        message = f"no version of {self.run.name} was saved as {self.label}"
        raise make_error("NOT_FOUND", "CHECKPOINT_NOT_FOUND", message, {"path": self.label, "run": self.run.name})


class Places:
    """Finds the place of a path.

    `sconce://HOST[:PORT]/[PROJECT/]RUN/FILE` names the run itself. Folders may stand before the file when the project is there, too:
    sconce://gpu-7/vision/resnet50/fold-1/last.ckpt. Any other path is of the run that is given, if there is one, and only a name.
    """

    def __init__(self, given: Union[Run, Client, None]) -> None:
        self._run = given if isinstance(given, Run) else None
        self._client = given if isinstance(given, Client) else None
        self._clients: Dict[str, Client] = {}

    def find(self, path: PathLike) -> Place:
        """InvalidArgumentError for a path that names no run."""
        text = os.fspath(path)
        if _URL.match(text):
            return self._of_url(text)
        if self._run is None:
            sentence = "say which run: SconceCheckpointIO(run), or ModelCheckpoint(dirpath='sconce://HOST/PROJECT/RUN')"
            raise _refs.invalid("ARGUMENT_INVALID", f"{text!r} does not name a run; {sentence}", {"path": text[:200]})
        if os.path.islink(text):  # ModelCheckpoint(save_last="link")
            text = os.path.join(os.path.dirname(text), os.readlink(text))
        return Place(self._run, label_of(os.path.abspath(text)))

    def folder(self, path: str) -> Tuple[Run, str]:
        """The run of a URL of a folder, and what the labels of its files begin with."""
        host, project, run, rest = split_url(path, is_file=False)
        return self.client(host).run(f"{project}/{run}"), f"{rest}/" if rest else ""

    def client(self, host: str) -> Client:
        """The client of that server."""
        target = _refs.complete_target(host)
        if self._client is not None and self._client.target == target:
            return self._client
        if target not in self._clients:
            self._clients[target] = connect(target)
        return self._clients[target]

    def adopt(self, client: Client) -> None:
        """A client to be used for its server's paths, with the settings that it was given."""
        self._clients[client.target] = client

    def close(self) -> None:
        """Closes the clients that were made here; they are made again when they are needed."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _of_url(self, text: str) -> Place:
        if "@" in text.rpartition("/")[2]:
            ref = _refs.parse(_URL.sub(_refs.SCHEME, text, count=1))
            return Place(self.client(ref.target).run(f"{ref.project}/{ref.run}"), "", ref.selector)
        host, project, run, rest = split_url(text)
        if self._run is not None and self._run.name == f"projects/{project}/runs/{run}":
            if connection_of(self._run).options.target == _refs.complete_target(host):
                return Place(self._run, label_of(rest))
        return Place(self.client(host).run(f"{project}/{run}"), label_of(rest))


def versions_of(run: Run, wanted: str = f'labels:"{LABEL}"') -> Iterator[CheckpointInfo]:
    """Of a run, by a filter, newest first; none when it does not exist."""
    try:
        yield from run.list(wanted)
    except SconceError as error:
        if error.reason != "RUN_NOT_FOUND":
            raise


def split_url(url: str, is_file: bool = True) -> Tuple[str, str, str, str]:
    """Host, project, run, and what follows.

    >>> split_url("sconce://gpu-7/vision/resnet50/fold-1/last.ckpt"), split_url("sconce://gpu-7/resnet50/last.ckpt")
    (('gpu-7', 'vision', 'resnet50', 'fold-1/last.ckpt'), ('gpu-7', 'default', 'resnet50', 'last.ckpt'))
    >>> split_url("sconce://gpu-7/vision/resnet50", is_file=False), split_url("sconce://gpu-7/resnet50", is_file=False)
    (('gpu-7', 'vision', 'resnet50', ''), ('gpu-7', 'default', 'resnet50', ''))
    """
    parts = [part for part in _URL.sub("", url, count=1).split("/") if part]
    ids = parts[1 : -1 if is_file else None]
    if not ids:
        form = "sconce://HOST[:PORT]/[PROJECT/]RUN/FILE"
        raise _refs.invalid("NAME_INVALID", f"{url!r} does not have the form {form}", {"name": url[:200]})
    if len(ids) == 1:
        return parts[0], _refs.DEFAULT_PROJECT, ids[0], "/".join(parts[2:])
    return parts[0], ids[0], ids[1], "/".join(parts[3:])


def label_of(path: str) -> str:
    """A path as a label's value, which may be 255 bytes long: of a longer one a digest and its end.

    >>> label_of("/runs/last.ckpt"), len(label_of("/runs" * 100 + "/last.ckpt"))
    ('/runs/last.ckpt', 255)
    """
    data = path.encode("utf-8", "surrogateescape")
    if len(data) <= _MAX_LABEL_BYTES:
        return data.decode("utf-8", "replace")
    head = f"{hashlib.sha256(data).hexdigest()[:32]}..."
    return head + data[len(head) - _MAX_LABEL_BYTES :].decode("utf-8", "ignore")


def name_in(label: str, prefix: str) -> Optional[str]:
    """The file or folder in the folder `prefix` that a label's path leads to; None when it is not in there."""
    return label[len(prefix) :].partition("/")[0] if label.startswith(prefix) and label != prefix else None
