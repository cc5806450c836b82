"""Checkpoints of Hugging Face's Trainer on a Sconce server.

    from sconce.transformers import SconceCallback, restore

    run = sconce.connect("gpu-7").run("bert")
    trainer = Trainer(..., callbacks=[SconceCallback(run)])
    trainer.train()

    folder = restore(run, "latest", trainer.args.output_dir)        # on another machine, or when the folder is gone
    trainer.train(resume_from_checkpoint=folder)

Each checkpoint folder that the Trainer writes becomes a version, with model, optimizer and scheduler decoded: unchanged tensors are not sent
again, and `run.load("best", branch="/model_state_dict")` gives weights for inference. What else is in the folder is kept as it is;
sconce/_transformers_folder.py says how.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from sconce import _progress
from sconce._fits import run_of
from sconce._info import CheckpointInfo
from sconce._run import Run, Selector

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError("sconce.transformers needs Hugging Face's transformers: pip install transformers") from error

from sconce._transformers_folder import read_folder, write_folder

__all__ = ["SconceCallback", "restore"]

# Times, which `best` should not go by.
_NOT_METRICS = ("_runtime", "_per_second", "_preparation_time")


class SconceCallback(TrainerCallback):  # type: ignore[misc]
    """Saves each checkpoint that a Trainer writes, from the process zero of all.

    run: a Run, or a ref of one. labels, aliases, progress: as of Run.save, for each version.
    background: a checkpoint is read at once, and sent while training goes on; one at a time. What goes wrong is raised by the next save, or at
    the end of training. Otherwise each is sent before training goes on.

    Step and epoch (its whole part) are the Trainer's. Metrics are those of the evaluation at this very step, "eval_loss" among them, which is
    also `loss`, by which a run's `best` goes. A checkpoint that was not evaluated has none. With several processes, the random states are those
    of the processes that have written theirs by then.

    last_saved: the version that was saved last.

    >>> trainer = Trainer(model, args, callbacks=[SconceCallback("nlp/bert", aliases=["newest"])])        # doctest: +SKIP
    """

    def __init__(
        self,
        run: Union[Run, str],
        *,
        labels: Optional[Mapping[str, str]] = None,
        aliases: Sequence[str] = (),
        background: bool = True,
        progress: _progress.Wanted = False,
    ) -> None:
        super().__init__()
        self._run = run_of(run)
        self._options: Dict[str, Any] = {"labels": dict(labels or {}), "aliases": tuple(aliases), "progress": progress}
        self._background = background
        self._executor: Optional[ThreadPoolExecutor] = None
        self._saving: Optional[Future[CheckpointInfo]] = None
        self.last_saved: Optional[CheckpointInfo] = None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Saves the folder that was just written. Errors: OSError; those of Run.save, also of the save before."""
        if not state.is_world_process_zero:
            return
        self.flush()
        tree = read_folder(pathlib.Path(args.output_dir) / f"checkpoint-{state.global_step}")
        epoch = None if state.epoch is None else int(state.epoch)
        about: Dict[str, Any] = {**self._options, "step": int(state.global_step), "epoch": epoch, "metrics": metrics_of(state)}
        if not self._background:
            self.last_saved = self._run.save(tree, **about)
            return
        self._executor = self._executor or ThreadPoolExecutor(1, "sconce-save")
        self._saving = self._executor.submit(self._run.save, tree, **about)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits until the last checkpoint is saved."""
        self.flush()

    def flush(self) -> None:
        """Waits until what is being sent is saved, and raises what went wrong."""
        saving, self._saving = self._saving, None
        if saving is not None:
            self.last_saved = saving.result()


def restore(
    run: Union[Run, str],
    selector: Selector,
    output_dir: Union[str, "os.PathLike[str]"],
    *,
    replace: bool = False,
    progress: _progress.Wanted = None,
) -> str:
    """Writes a version that a SconceCallback saved as a folder `checkpoint-STEP` in `output_dir`.

    Returns its path, for `trainer.train(resume_from_checkpoint=)`.

    The folder is there when it is whole, or not at all. replace: one of that name is replaced, otherwise FileExistsError.
    ValueError for a version that does not come from a SconceCallback. Otherwise as Run.load.

    >>> trainer.train(resume_from_checkpoint=restore("nlp/bert", "latest", trainer.args.output_dir))        # doctest: +SKIP
    """
    tree = run_of(run).load(selector, map_location="cpu", progress=progress)
    if not isinstance(tree, Mapping) or "global_step" not in tree:
        raise ValueError("this version does not come from a SconceCallback: it has no global_step")
    parent = pathlib.Path(output_dir)
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"checkpoint-{int(tree['global_step'])}"
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} exists; resume from it, or restore with replace=True")
    # Not named like a checkpoint, which a Trainer might take it for.
    made = pathlib.Path(tempfile.mkdtemp(prefix=".restoring-", dir=parent))
    try:
        write_folder(tree, made)
        made.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return str(folder)


def metrics_of(state: Any) -> Dict[str, float]:
    """What was evaluated at the step that a Trainer is at.

    >>> import types
    >>> history = [{"loss": 2.0, "step": 10}, {"eval_loss": 1.5, "eval_runtime": 3.0, "step": 10}]
    >>> metrics_of(types.SimpleNamespace(global_step=10, log_history=history)), metrics_of(types.SimpleNamespace(global_step=20, log_history=history))
    ({'eval_loss': 1.5, 'loss': 1.5}, {})
    """
    found: Dict[str, float] = {}
    for entry in state.log_history:
        if entry.get("step") != state.global_step:
            continue
        for name, value in entry.items():
            if name.startswith("eval_") and isinstance(value, (int, float)) and not name.endswith(_NOT_METRICS):
                found[name] = float(value)
    if "eval_loss" in found:
        found["loss"] = found["eval_loss"]
    return found
