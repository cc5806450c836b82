"""Checkpoint folders of Hugging Face's Trainer, as trees to be saved, and back.

    {
        "global_step": 500,
        "model_state_dict": {...},             # of model.safetensors or pytorch_model.bin, also of their shards, or of an adapter's weights
        "optimizer_state_dict": {...},         # optimizer.pt
        "scheduler_state_dict": {...},         # scheduler.pt; likewise "scaler_state_dict"
        "rng_states": {"rng_state.pth": ...},  # each rank's
        "trainer_state": "...",                # trainer_state.json
        "weights": {"file": "model.safetensors", "metadata": {"format": "pt"}},
        "files": {"training_args.bin": b"...", "config.json": b"..."},
    }

`files` has the bytes of all others, training_args.bin among them, which is the pickle of a class: it is not decoded, here or by the server. Large
ones are tensors of bytes. A .pt file with what Sconce does not store is kept there, too.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import pathlib
from typing import Any, ContextManager, Dict, List, Mapping, Tuple

import torch

from sconce._capture import capture
from sconce._errors import InvalidArgumentError

__all__ = ["read_folder", "write_folder"]

_STATES = {"optimizer.pt": "optimizer_state_dict", "scheduler.pt": "scheduler_state_dict", "scaler.pt": "scaler_state_dict"}
_RNG_STATES = "rng_state*.pth"
_TRAINER_STATE = "trainer_state.json"
# What weights are in, in the order in which a Trainer looks for them; an index names shards.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
_INLINE_BYTES = 64 << 10  # a larger file is a tensor of bytes, which is stored in chunks and deduplicated


def read_folder(folder: pathlib.Path) -> Dict[str, Any]:
    """A checkpoint folder as a tree. All is in memory then: the folder may be deleted."""
    with open(folder / _TRAINER_STATE, encoding="utf-8") as file:
        trainer_state = file.read()
    tree: Dict[str, Any] = {"global_step": json.loads(trainer_state)["global_step"], "trainer_state": trainer_state}
    taken = {_TRAINER_STATE, *_read_weights(folder, tree)}
    files: Dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in taken:
            continue
        is_rng_state = fnmatch.fnmatchcase(name, _RNG_STATES)
        if (name in _STATES or is_rng_state) and _read_state(path, tree, name, is_rng_state):
            continue
        files[name] = _read_bytes(path)
    tree["files"] = files
    return tree


def write_folder(tree: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Fills a new folder with what read_folder() took from one. ValueError for another tree, and for file names that lead out of the folder."""
    if not isinstance(tree, Mapping) or not {"trainer_state", "files"} <= set(tree):
        raise ValueError("this version does not come from a SconceCallback: it has no trainer_state and files")
    with open(folder / _TRAINER_STATE, "x", encoding="utf-8") as file:
        file.write(tree["trainer_state"])
    for name, key in _STATES.items():
        if key in tree:
            torch.save(tree[key], folder / name)
    for name, state in tree.get("rng_states", {}).items():
        torch.save(state, _inside(folder, name))
    if "weights" in tree:
        _write_weights(tree["model_state_dict"], tree["weights"], folder)
    for name, content in tree["files"].items():
        path = _inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.numpy().tobytes() if isinstance(content, torch.Tensor) else content)


def _read_state(path: pathlib.Path, tree: Dict[str, Any], name: str, is_rng_state: bool) -> bool:
    """Puts a file of torch.save into the tree; False when it holds what is not stored."""
    with _numpy_allowed() as safe:
        # Without safe_globals (PyTorch before 2.5) numpy's values are not among the safe ones. The file is this process's trainer's own.
        state = torch.load(path, map_location="cpu", weights_only=safe)
    try:
        capture(state)
    except InvalidArgumentError:
        return False
    if is_rng_state:
        tree.setdefault("rng_states", {})[name] = state
    else:
        tree[_STATES[name]] = state
    return True


def _numpy_allowed() -> ContextManager[bool]:
    if not hasattr(torch.serialization, "safe_globals"):
        return contextlib.nullcontext(False)
    return _safe_globals()


@contextlib.contextmanager
def _safe_globals() -> Any:
    import numpy  # pylint: disable=import-outside-toplevel

    core = numpy._core if hasattr(numpy, "_core") else numpy.core
    functions = [core.multiarray._reconstruct, core.multiarray.scalar]
    with torch.serialization.safe_globals([*functions, numpy.ndarray, numpy.dtype, *{type(numpy.dtype(code)) for code in "?bBhHiIlLqQefd"}]):
        yield True


def _read_weights(folder: pathlib.Path, tree: Dict[str, Any]) -> List[str]:
    """Puts the weights into the tree; returns the files that they were in."""
    for name in _WEIGHTS:
        files = [name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        elif not (folder / name).is_file():
            continue
        state_dict: Dict[str, Any] = {}
        metadata: Dict[str, str] = {}
        for file in files:
            tensors, metadata = _read_weights_file(folder / file)
            state_dict.update(tensors)
        tree["model_state_dict"] = state_dict
        tree["weights"] = {"file": name, "metadata": metadata}
        return [*files, index.name]
    return []


def _read_weights_file(path: pathlib.Path) -> Tuple[Mapping[str, Any], Dict[str, str]]:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True), {}
    import safetensors  # pylint: disable=import-outside-toplevel

    with safetensors.safe_open(str(path), framework="pt") as file:
        # Copies, for these are views of the mapped file.
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})


def _write_weights(state_dict: Mapping[str, Any], weights: Mapping[str, Any], folder: pathlib.Path) -> None:
    path = _inside(folder, weights["file"])
    if path.suffix != ".safetensors":
        torch.save(dict(state_dict), path)
        return
    import safetensors.torch  # pylint: disable=import-outside-toplevel

    tensors = {name: tensor.contiguous() for name, tensor in state_dict.items()}
    safetensors.torch.save_file(tensors, str(path), metadata=dict(weights["metadata"]) or None)


def _read_bytes(path: pathlib.Path) -> Any:
    content = path.read_bytes()
    return content if len(content) <= _INLINE_BYTES else torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A file of the folder. The name comes from a checkpoint, which anybody may have saved."""
    pure = pathlib.PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
        raise ValueError(f"the checkpoint has a file name that leads out of its folder: {name!r}")
    return folder / pure
