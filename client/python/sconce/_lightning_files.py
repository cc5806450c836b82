"""What Lightning asks of a file system about the folder that a ModelCheckpoint writes to, answered from the labels of versions."""

from __future__ import annotations

from typing import Any, Dict, List

import fsspec

from sconce._client import Client
from sconce._lightning_paths import LABEL, Places, name_in, versions_of

__all__ = ["adopt", "register"]


class SconceFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The protocol `sconce` of fsspec, as far as ModelCheckpoint needs it: what there is. A folder is where a file is. Content comes and goes by
    CheckpointIO."""

    protocol = "sconce"
    places = Places(None)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path if isinstance(path, list) else "sconce://" + "/".join(part for part in str(path).split("/") if part not in ("", "sconce:"))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> List[Any]:
        """Files and folders in a folder. FileNotFoundError when there are none."""
        path = self._strip_protocol(path)
        run, prefix = self.places.folder(path)
        found: Dict[str, Dict[str, Any]] = {}
        for info in versions_of(run):
            label = info.labels.get(LABEL, "")
            name = name_in(label, prefix)
            if name:
                kind = "file" if label == prefix + name else "directory"
                found.setdefault(name, {"name": f"{path}/{name}", "size": info.size_bytes if kind == "file" else 0, "type": kind})
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else [entry["name"] for entry in found.values()]

    def info(self, path: str, **kwargs: Any) -> Dict[str, Any]:
        """A file or a folder. FileNotFoundError."""
        path = self._strip_protocol(path)
        folder, _, name = path.rpartition("/")
        try:
            for entry in self.ls(folder):
                if entry["name"].rpartition("/")[2] == name:
                    return dict(entry)
        except (FileNotFoundError, ValueError):  # the folder is a run's own
            pass
        self.ls(path)
        return {"name": path, "size": 0, "type": "directory"}

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing: a folder is where a file is."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: a folder is where a file is."""


def register() -> None:
    """Makes `sconce://` known to fsspec. Servers are called with the settings of the environment, but those that adopt() was told of."""
    fsspec.register_implementation("sconce", SconceFiles, clobber=True)


def adopt(client: Client) -> None:
    """Has a client's server asked through it."""
    SconceFiles.places.adopt(client)
