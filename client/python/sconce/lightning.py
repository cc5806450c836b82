"""Checkpoints of Lightning on a Sconce server.

    from sconce.lightning import SconceCheckpointIO

    run = sconce.connect("gpu-7").run("vision/resnet50")
    trainer = Trainer(plugins=[SconceCheckpointIO(run)], callbacks=[ModelCheckpoint("checkpoints", monitor="val_loss", save_last=True)])
    trainer.fit(model)
    trainer.fit(model, ckpt_path="checkpoints/last.ckpt")        # another process, another machine

Saved, loaded and rotated are versions of the run; no file is written. Each has its path as the label `lightning.path`; a path that was saved
more than once means its newest version. With `ModelCheckpoint(dirpath="sconce://gpu-7/vision/resnet50")` the run comes from the path, and
`ckpt_path="last"` finds what an earlier process saved, which with a local dirpath only the path itself does.

Epoch and step are those of the checkpoint; metrics are what the ModelCheckpoints monitor, with their scores when they saved. What is stored are
data: in a checkpoint's hyper-parameters and callbacks' states, AttributeDict and other subclasses of dict become dicts, paths str, enums their
values, namespaces dicts, and so on (sconce._plain.to_plain has the list); other objects and classes are refused, with their places in the
checkpoint. So nothing needs weights_only=False.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional, Union

from sconce import _progress
from sconce._client import Client
from sconce._fits import run_of
from sconce._info import CheckpointInfo
from sconce._lightning_paths import LABEL, Places
from sconce._plain import to_plain
from sconce._run import Run

try:
    from lightning.pytorch.plugins.io import CheckpointIO
except ImportError:
    try:
        from pytorch_lightning.plugins.io import CheckpointIO
    except ImportError as error:
        raise ImportError("sconce.lightning needs Lightning: pip install lightning, or pytorch-lightning") from error

from sconce import _lightning_files

__all__ = ["SconceCheckpointIO"]

_Path = Union[str, "os.PathLike[str]"]

_lightning_files.register()


class SconceCheckpointIO(CheckpointIO):  # type: ignore[misc]
    """Saves and loads checkpoints for a Trainer. Thread-safe; also inside of AsyncCheckpointIO.

    run: a Run, or a ref of one; a Client, or None, when all paths are sconce:// URLs.
    keep_overwritten: what is saved to a path again leaves its older versions alone; otherwise they are deleted, as a file would be overwritten.
    labels: of each version. progress: as of Run.save.

    last_saved: the version that was saved last.

    >>> trainer = Trainer(plugins=[SconceCheckpointIO("vision/resnet50")])        # doctest: +SKIP
    >>> trainer.test(model, ckpt_path="sconce://gpu-7/vision/resnet50@best")      # doctest: +SKIP
    """

    def __init__(
        self,
        run: Union[Run, Client, str, None] = None,
        *,
        keep_overwritten: bool = True,
        labels: Optional[Mapping[str, str]] = None,
        progress: _progress.Wanted = None,
    ) -> None:
        super().__init__()
        self._places = Places(run_of(run) if isinstance(run, str) else run)
        if isinstance(run, Client):
            _lightning_files.adopt(run)
        self._keep_overwritten = keep_overwritten
        self._labels = dict(labels or {})
        self._progress = progress
        self.last_saved: Optional[CheckpointInfo] = None

    def save_checkpoint(self, checkpoint: Dict[str, Any], path: _Path, storage_options: Optional[Any] = None) -> None:
        """Saves a version. `storage_options`: a dict of what else Run.save takes, such as {"pinned": True}. Errors: those of Run.save."""
        if storage_options is not None and not isinstance(storage_options, Mapping):
            raise TypeError(f"storage_options takes a dict of arguments of Run.save, not {type(storage_options).__name__}")
        options = dict(storage_options or {})
        place = self._places.find(path)
        if place.selector:
            raise ValueError(f"{path} is a version that there is; save to a path, or give aliases in storage_options")
        labels = {**self._labels, **(options.pop("labels", None) or {}), LABEL: place.label}
        options = {"metrics": _metrics(checkpoint), "progress": self._progress, **options}
        saved = place.run.save(to_plain(checkpoint), labels=labels, **options)
        self.last_saved = saved
        if not self._keep_overwritten:
            for info in list(place.versions()):
                if info.version < saved.version:
                    place.run.delete(info.version, allow_missing=True)

    def load_checkpoint(self, path: _Path, map_location: Optional[Any] = None, weights_only: Optional[bool] = None, **kwargs: Any) -> Dict[str, Any]:
        """Loads the version that a path means. `weights_only` is not needed: no code of a checkpoint's is run.

        NotFoundError (CHECKPOINT_NOT_FOUND) when nothing was saved to the path; otherwise as Run.load.
        """
        del weights_only, kwargs
        place = self._places.find(path)
        loaded: Dict[str, Any] = place.run.load(place.newest(), map_location=map_location, progress=self._progress)
        return loaded

    def remove_checkpoint(self, path: _Path) -> None:
        """Deletes the version that a path means, and those that were saved to it before. Nothing when there is none.

        PreconditionError (CHECKPOINT_PROTECTED) for one with an alias or a pin.
        """
        place = self._places.find(path)
        for info in list(place.versions()):
            place.run.delete(info.version, allow_missing=True)

    def teardown(self) -> None:
        """Closes the connections that were made for sconce:// paths."""
        self._places.close()


def _metrics(checkpoint: Mapping[str, Any]) -> Dict[str, float]:
    """What ModelCheckpoints monitor, as they saw it last."""
    found: Dict[str, float] = {}
    for state in (checkpoint.get("callbacks") or {}).values():
        if isinstance(state, Mapping) and isinstance(state.get("monitor"), str) and state.get("current_score") is not None:
            found.setdefault(state["monitor"], float(state["current_score"]))
    return found
