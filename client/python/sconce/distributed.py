"""Checkpoints of torch.distributed.checkpoint (DCP) on a Sconce server: saved by N ranks at once, loaded by any number.

    import torch.distributed.checkpoint as dcp
    from sconce.distributed import SconceReader, SconceWriter

    dcp.save({"model": model_state, "optim": optim_state}, storage_writer=SconceWriter("llama", step=step))
    dcp.load({"model": model_state, "optim": optim_state}, storage_reader=SconceReader("llama", "latest"))

Each rank sends its shards as its part of one upload; the coordinator makes it a version when all parts are there. What is stored is the nested
state dict, with each sharded tensor as one: `run.load()` gives whole tensors, `run.load(branch="/model")` the model's, and `sconce show` lists
them. Values that are no tensors are stored as data, so those that `torch.load(weights_only=True)` would refuse are refused; numpy's are taken.

A reader takes any version whose tree is a dict, also one of `Run.save`, and fetches only the ranges of bytes that its rank wants.

Differences from the state dict that was saved are DCP's own (keys become str, all dicts are plain), and one more: a list in which there are
tensors comes back from `run.load()` as a dict with its indices as keys. `dcp.load` does not see it.

Needs PyTorch 2.3 or newer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import os
import uuid
from typing import Any, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from sconce import _progress, _refs, _saving, _upload
from sconce._capture import capture
from sconce._errors import SconceError, make_error
from sconce._fetch import StreamFetch
from sconce._fits import connection_of, ref_of, run_of
from sconce._info import CheckpointInfo
from sconce._proto import v1
from sconce._run import Run, Selector

try:
    import torch
    from torch.distributed.checkpoint import StorageReader, StorageWriter
    from torch.distributed.checkpoint.planner import LoadItemType, WriteItemType
    from torch.distributed.checkpoint.storage import WriteResult
    from torch.futures import Future

    if not hasattr(StorageWriter, "reset"):
        raise ImportError("this PyTorch is older")
except ImportError as error:
    raise ImportError("sconce.distributed needs PyTorch 2.3 or newer, built with torch.distributed") from error

from sconce._distributed_index import Box, CheckpointIndex
from sconce._distributed_read import Reader, Wanted, saved_bytes
from sconce._distributed_tree import Path, PartTree, list_of, lists_with_tensors, path_of

__all__ = ["SconceReader", "SconceWriter"]

CheckpointId = Union[str, "os.PathLike[str]", None]


@dataclasses.dataclass(frozen=True)
class _Part:
    """What the coordinator tells a rank: which part of which upload it writes, and which lists have tensors in them."""

    upload: str
    number: int
    tensor_lists: FrozenSet[Path]


class SconceWriter(StorageWriter):  # type: ignore[misc]
    """Saves a state dict of all ranks as one version.

    run: a Run, or a ref: "llama", "nlp/llama" or "sconce://gpu-7/nlp/llama". None: dcp.save's `checkpoint_id` is one that begins with sconce://.
    step, epoch, metrics, labels, aliases, pinned, expire, progress: as of Run.save; all ranks give the same. Not given: step, epoch and loss are
    those at the top of the state dict.

    checkpoint: the version, on the coordinator, once it is saved.

    Errors come as DCP's CheckpointException, on all ranks, and hold the rank's own: those of Run.save; PreconditionError (PARTS_OVERLAP,
    PARTS_INCOMPLETE) when a planner gave something to two ranks, or to none. Nothing is stored then.

    >>> writer = SconceWriter("llama", step=1000, metrics={"loss": 0.5})           # doctest: +SKIP
    >>> dcp.save(state_dict, storage_writer=writer)                               # doctest: +SKIP
    >>> writer.checkpoint.ref if rank == 0 else None                              # doctest: +SKIP
    'llama@7'
    """

    def __init__(
        self,
        run: Union[Run, str, None] = None,
        *,
        step: Optional[int] = None,
        epoch: Optional[int] = None,
        metrics: Optional[Mapping[str, Any]] = None,
        labels: Optional[Mapping[str, str]] = None,
        aliases: Sequence[str] = (),
        pinned: bool = False,
        expire: Union[None, datetime.datetime, datetime.timedelta] = None,
        progress: _progress.Wanted = None,
    ) -> None:
        super().__init__()
        self.checkpoint: Optional[CheckpointInfo] = None
        self._run = run_of(run) if run is not None else None
        self._about = _saving.About(step, epoch, metrics, labels, tuple(aliases), pinned, expire)
        self._progress = progress
        self._upload = ""

    def reset(self, checkpoint_id: CheckpointId = None) -> None:
        """A new save begins."""
        self.checkpoint = None
        self._upload = ""
        if checkpoint_id is not None:
            self._run = run_of(_sconce_ref(checkpoint_id))

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """ValueError for a save without collectives: then no rank would know that all parts are there."""
        del is_coordinator, args
        if not kwargs.get("use_collectives", True):
            raise ValueError("SconceWriter commits when all ranks are done, so it needs use_collectives=True")
        self._the_run()

    def prepare_local_plan(self, plan: Any) -> Any:
        """Nothing to prepare."""
        return plan

    def prepare_global_plan(self, plans: List[Any]) -> List[Any]:
        """Opens the upload, with a part for each rank and one for the coordinator's lists."""
        if not all(getattr(plan, "usable", True) for plan in plans):
            raise ValueError("SconceWriter tells each rank with its plan where to upload: use a planner without enable_plan_caching")
        run = self._the_run()
        header = self._about.header(ref_of(run).run_name)
        opened = _upload.begin(connection_of(run), header, upload_id=str(uuid.uuid4()), expected_parts=len(plans) + 1)
        self._upload = opened.name
        paths = (path_of(plan.planner_data, item.index.fqn) for plan in plans for item in plan.items if item.tensor_data is not None)
        tensor_lists = lists_with_tensors(paths)
        return [dataclasses.replace(plan, storage_data=_Part(opened.name, number, tensor_lists)) for number, plan in enumerate(plans)]

    def write_data(self, plan: Any, planner: Any) -> Any:
        """Sends this rank's part. What belongs to the coordinator's goes with the results."""
        part: _Part = plan.storage_data
        mappings = plan.planner_data if plan.planner_data is not None else getattr(planner, "mappings", None)
        tree = PartTree()
        results = []
        for item in plan.items:
            path = path_of(mappings, item.index.fqn)
            deferred = _put_value(tree, part, path, planner.resolve_data(item)) if item.type == WriteItemType.BYTE_IO else None
            if item.type != WriteItemType.BYTE_IO:
                _put_tensor(tree, path, item.tensor_data, planner.resolve_data(item).detach())
            results.append(WriteResult(index=item.index, size_in_bytes=item.tensor_storage_size() or 0, storage_data=deferred))
        self._send(part.upload, part.number, tree)
        future = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Any, results: List[List[Any]]) -> None:
        """Sends the coordinator's part and makes the upload a version."""
        tree = PartTree()
        tree.put_lists(result.storage_data for of_rank in results for result in of_rank if result.storage_data is not None)
        self._send(self._upload, len(results), tree)
        run = self._the_run()
        outcome = _upload.UploadOutcome(_upload.commit(connection_of(run), self._upload), 0, 0, 0)
        self.checkpoint = dataclasses.replace(_saving.finish(connection_of(run), ref_of(run), outcome, self._about.aliases), uploaded_bytes=None)
        metadata.storage_data = self.checkpoint.name

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Whether it is a ref that begins with sconce://."""
        return _is_sconce_ref(checkpoint_id)

    def _the_run(self) -> Run:
        if self._run is None:
            raise ValueError("say which run: SconceWriter(run), or dcp.save(..., checkpoint_id='sconce://HOST/[project/]run')")
        return self._run

    def _send(self, upload: str, number: int, tree: PartTree) -> None:
        connection = connection_of(self._the_run())
        try:
            captured = capture(tree.root)
            sizes = captured.storages.sizes
            with _progress.reporting(self._progress, str(ref_of(self._the_run()))) as report:
                _upload.upload_part(connection, upload, number, captured.manifest_bytes, captured.storages, sizes=sizes, progress=report)
        except BaseException:
            with contextlib.suppress(SconceError):  # what went wrong first is to be told
                _upload.abort(connection, upload)
            raise


class SconceReader(StorageReader):  # type: ignore[misc]
    """Loads a version, or the parts of it that this rank wants, into a state dict.

    run, selector: of which run, which version: a number, "latest", "best" or an alias. None: dcp.load's `checkpoint_id` is a ref such as
    "sconce://gpu-7/llama@best".
    flatten: as the load planner's `flatten_state_dict`.

    Errors come as DCP's CheckpointException and hold the rank's own: those of Run.get and Run.load; PreconditionError (STATE_DICT_INVALID) for a
    version that is no dict; ConflictError (PLAN_CHANGED) when `latest` moved while the ranks asked for it: give the number then.

    >>> dcp.load(state_dict, storage_reader=SconceReader("llama", "best"))        # doctest: +SKIP
    """

    def __init__(self, run: Union[Run, str, None] = None, selector: Selector = "latest", *, flatten: bool = True) -> None:
        super().__init__()
        self._run = run_of(run) if run is not None else None
        self._selector = _refs.check_selector(str(selector))
        self._flatten = flatten
        self._version = ""
        self._reader: Optional[Reader] = None
        self._index: Optional[CheckpointIndex] = None

    def reset(self, checkpoint_id: CheckpointId = None) -> None:
        """A new load begins."""
        self._reader = self._index = None
        if checkpoint_id is not None:
            ref = _refs.parse(_sconce_ref(checkpoint_id))
            self._run = run_of(str(checkpoint_id).partition("@")[0])
            self._selector = ref.selector or "latest"

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        """What is in the version: its manifest, without the bytes of its tensors."""
        del args
        if kwargs.get("rank") is not None:  # DCP asks so when it could not be read for all ranks, and then loads without collectives
            raise ValueError("a version has no metadata of single ranks")
        if self._run is None:
            form = "sconce://HOST/[project/]run[@selector]"
            raise ValueError(f"say which version: SconceReader(run, selector), or dcp.load(..., checkpoint_id='{form}')")
        # One byte of the bulk stream comes with the manifest; what is wanted of it is asked for when the plan is known.
        request = v1.FetchCheckpointRequest(name=f"{self._run.name}/checkpoints/{self._selector}", limit=1)
        with StreamFetch(connection_of(self._run), request) as fetch:
            self._index = CheckpointIndex(fetch.manifest_bytes, self._flatten)
            self._reader = Reader(fetch, self._index)
            self._version = fetch.header.checkpoint.name
        return self._index.metadata()

    def set_up_storage_reader(self, metadata: Any, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: Any) -> Any:
        """Adds which version this rank is going to read."""
        plan.storage_data = self._version
        return plan

    def prepare_global_plan(self, plans: List[Any]) -> List[Any]:
        """Checks that all ranks read the same version."""
        versions = sorted({plan.storage_data for plan in plans})
        if len(versions) > 1:
            message = f"{self._selector} moved while the ranks asked for it: some have {versions[0]}, others {versions[-1]}"
            raise make_error("ABORTED", "PLAN_CHANGED", f"{message}; load it by its number")
        return plans

    def read_data(self, plan: Any, planner: Any) -> Any:
        """Reads what the plan wants of the version."""
        assert self._reader is not None and self._index is not None, "read_metadata() comes first"
        values = [item for item in plan.items if item.type == LoadItemType.BYTE_IO]
        tensors = [item for item in plan.items if item.type != LoadItemType.BYTE_IO]
        nodes = [self._index.nodes[item.storage_index.fqn] for item in values]
        for item, value in zip(values, self._reader.read_values(nodes) if nodes else ()):
            planner.load_bytes(item, saved_bytes(value))
        targets = [_Target(planner, item) for item in tensors]
        self._reader.read(_wanted(tensors, targets))
        for target in targets:
            target.commit()
        future = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Whether it is a ref that begins with sconce://."""
        return _is_sconce_ref(checkpoint_id)


class _Target:
    """The tensor that an item is read into, asked of the planner when its first bytes are there."""

    def __init__(self, planner: Any, item: Any) -> None:
        self._planner = planner
        self._item = item
        self._tensor: Any = None

    def __call__(self) -> Any:
        if self._tensor is None:
            self._tensor = self._planner.resolve_tensor(self._item).detach()
        return self._tensor

    def commit(self) -> None:
        self._planner.commit_tensor(self._item, self())


def _wanted(items: Sequence[Any], targets: Sequence[_Target]) -> Iterable[Wanted]:
    for item, target in zip(items, targets):
        index = item.storage_index
        chunk = tuple(index.offset) if index.offset is not None else (0,) * len(item.lengths)
        yield Wanted(Box(index.fqn, chunk, tuple(item.storage_offsets), tuple(item.lengths)), target)


def _put_value(tree: PartTree, part: _Part, path: Path, stream: io.BytesIO) -> Optional[Tuple[Path, Any]]:
    """Puts a value that is no tensor into the part; one that the coordinator writes is returned instead, with its path."""
    stream.seek(0)
    value = torch.load(stream, map_location="cpu", weights_only=False)  # what this process's own planner wrote a moment ago
    place = list_of(path)
    if place is not None and place not in part.tensor_lists:
        return path, value
    tree.put(path, value)
    return None


def _put_tensor(tree: PartTree, path: Path, data: Any, tensor: Any) -> None:
    """Puts a tensor, or this rank's shard of one, into the part."""
    size, offsets, sizes = tuple(data.size), tuple(data.chunk.offsets), tuple(data.chunk.sizes)
    if tuple(tensor.shape) != sizes:
        tensor = tensor.reshape(sizes)
    if size == sizes:
        tree.put(path, _compact(tensor))
    elif 0 not in sizes:  # a rank that got nothing of a tensor has nothing to add
        tree.put_shard(path, size, offsets, _compact(tensor))


def _compact(tensor: Any) -> Any:
    """The tensor itself, or a copy when it sees only some of the bytes between its first and its last."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.numel() == 0:
        return tensor
    span = 1 + sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride()))
    return tensor.contiguous() if span > tensor.numel() else tensor


def _is_sconce_ref(checkpoint_id: CheckpointId) -> bool:
    try:
        return bool(_refs.parse(_sconce_ref(checkpoint_id)).run)
    except ValueError:
        return False


def _sconce_ref(checkpoint_id: CheckpointId) -> str:
    text = str(checkpoint_id)
    if not text.startswith(_refs.SCHEME):
        form = "sconce://HOST[:PORT]/[project/]run[@selector]"
        raise ValueError(f"checkpoint_id {text!r} is not of the form {form}; or name the run in the constructor, and leave it out")
    return text
