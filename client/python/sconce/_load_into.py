"""Loads a version into a model: what fits is planned by the server, and comes into the memory that the model has already.

1. Plan. What load_state_dict would raise is raised now, before anything of the model changes.
2. Fetch only what matches. Each storage of the checkpoint goes one of three ways:
   * straight into the memory of a parameter or buffer, where that has the same dtype and layout;
   * into memory beside them that all use in turn, and from there into the parameters as soon as it is whole;
   * into memory of its own until the end: what the model's own code must see (extra state, modules and hooks that load in their own way), and what PyTorch's
     order of copying decides (parameters that share memory, of values that do not).
3. The model's own load_state_dict has the last word. Of the first two ways it finds the model's own tensors in place of the checkpoint's.

With assign=True there is no memory to write to: tensors are made as Run.load makes them, and the model takes them over.
"""

from __future__ import annotations

import collections
import inspect
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import torch

from sconce import _fetch, _plan, _progress, _refs
from sconce._capture_storages import memory_at
from sconce._connection import Connection
from sconce._loading import cast
from sconce._map_location import split
from sconce._nodes import DTYPES, PACKED, Kind, Manifest, TensorView, collector_paused, contiguous_stride
from sconce._proto import v1
from sconce._restore import Restorer

# Their _load_from_state_dict does what Module's does, and fills in num_batches_tracked.
_PLAIN_LOADERS = ("torch.nn.modules.module", "torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm")
_Batch = List[Any]  # of v1.TargetKey


def plan(connection: Connection, ref: _refs.Ref, model: Any, branch: str, rules: Any, min_match: Optional[float]) -> _plan.LoadPlan:
    """See Run.plan."""
    is_module = isinstance(model, torch.nn.Module)
    keys = _plan.target_keys(model.state_dict() if is_module else model)
    return _plan.make_plan(connection, ref, branch, keys, type(model).__name__ if is_module else "Module", rules, min_match)


def load_into(
    connection: Connection,
    ref: _refs.Ref,
    model: Any,
    *,
    branch: str,
    strict: bool,
    assign: bool,
    map_location: Any,
    dtype: Any,
    rules: Any,
    min_match: Optional[float],
    progress: _progress.Wanted,
) -> _plan.IncompatibleKeys:
    """See Run.load_into."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"load_into takes a torch.nn.Module, not {type(model).__name__}")
    options: Dict[str, Any] = {"assign": True} if assign else {}
    if assign and "assign" not in inspect.signature(torch.nn.Module.load_state_dict).parameters:
        raise TypeError(f"assign=True needs PyTorch 2.1 or newer, and this is {torch.__version__}")
    keys = _plan.target_keys(model.state_dict())
    made = _plan.make_plan(connection, ref, branch, keys, type(model).__name__, rules, min_match)
    made.check(strict)
    keys = [key for key in keys if key.key in made.matched]
    state: Any = collections.OrderedDict()
    state._metadata = collections.OrderedDict()
    target = None if assign else _Target(model, list(made.matched))
    places = split(map_location if assign else "cpu")
    with _progress.reporting(progress, f"{made.checkpoint.ref}") as report:
        done = 0
        pieces = list(_plan.batches(keys)) if keys else []
        for batch in pieces:
            load_plan = v1.LoadPlan(target_keys=batch, rules=rules)
            mapping = {"device": places.device, "remap": places.remap}
            with _fetch.begin_fetch(connection, made.checkpoint.name, {"root": branch}, mapping, cast(dtype), load_plan) as fetch:
                restorer = Restorer(fetch.manifest_bytes, map_location=places.client, demanded=sorted(places.demanded))
                arrival = _Arrival(restorer, target)
                arrival.fill(fetch, _shifted(report, done, made.transfer_bytes if batch is not pieces[-1] else 0))
                done += fetch.header.bulk_bytes
            part = restorer.finish()
            state.update(part)
            state._metadata.update(getattr(part, "_metadata", {}))
            if target is not None:
                # The model's own tensors, of which PyTorch sees that there is nothing to copy; views of them it would copy to where they are.
                state.update((key, target.tensors[key]) for key in arrival.settled)
    _keep_from_filling_in(state._metadata, made.missing_keys)
    model.load_state_dict(state, strict=False, **options)
    return _plan.IncompatibleKeys(made.missing_keys, made.unexpected_keys)


def _shifted(report: Optional[_progress.Report], before: int, estimate: int) -> Optional[_progress.Report]:
    """Of one of several fetches; how much all of them bring is known with the last one."""
    if report is None:
        return None
    tell = report
    return lambda done, size: tell(before + done, max(estimate, before + size))


def _keep_from_filling_in(metadata: Dict[str, Any], missing_keys: Iterable[str]) -> None:
    """BatchNorm sets num_batches_tracked when a state_dict says nothing about its module. Where it is missing it must not: the version does say."""
    for key in missing_keys:
        module, _, name = key.rpartition(".")
        if name == "num_batches_tracked":
            metadata.setdefault(module, {"version": 2})


class _Target:
    """The model's own tensors among those that match, and which of them may be written to before its load_state_dict runs."""

    def __init__(self, model: Any, keys: Sequence[str]) -> None:
        self.tensors: Dict[str, Any] = {}
        own = _own_tensors(model)
        for key in keys:
            tensor = own.get(key)
            if tensor is not None and tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta:
                self.tensors[key] = tensor
        # Groups of keys whose memory overlaps. A key that is alone is not listed.
        self.shared: List[List[str]] = _overlapping(self.tensors)

    def can_be_landed_on(self, key: str, view: TensorView, size_bytes: int) -> bool:
        """Whether a storage of that size, which the view sees all of, may be written as it is to the memory of the tensor."""
        tensor = self.tensors[key]
        return bool(
            tensor.device.type == "cpu"
            and type(tensor) in (torch.Tensor, torch.nn.Parameter)
            and tensor.shape == view.shape
            and _plan.dtype_name(tensor.dtype) == view.dtype
            and view.dtype not in PACKED
            and not (view.conjugate or view.negative or view.offset or tensor.is_conj() or tensor.is_neg())
            and tensor.numel() * tensor.element_size() == size_bytes
            and _lie_alike(tensor, view)
        )

    def memory_of(self, key: str) -> Any:
        """The bytes of a tensor that can be landed on, as a tensor of its own."""
        tensor = self.tensors[key].data
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))
        return torch.from_numpy(flat.view(torch.uint8).numpy())  # whose storage begins where the tensor does


def _own_tensors(model: Any) -> Dict[str, Any]:
    """Parameters and persistent buffers that load_state_dict would just copy to, by key."""
    own: Dict[str, Any] = {}
    if "load_state_dict" in model.__dict__ or type(model).load_state_dict is not torch.nn.Module.load_state_dict:
        return own
    with_hooks: List[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        if getattr(module, "_load_state_dict_pre_hooks", None):
            with_hooks.append(prefix)
        if any(prefix.startswith(outer) for outer in with_hooks) or not _loads_plainly(module):
            continue
        for group in (module._parameters, module._buffers):
            own.update((prefix + key, value) for key, value in group.items() if value is not None)
    return own


def _loads_plainly(module: Any) -> bool:
    if "_load_from_state_dict" in module.__dict__:
        return False
    definer = next(kind for kind in type(module).__mro__ if "_load_from_state_dict" in kind.__dict__)
    return definer.__module__ in _PLAIN_LOADERS


def _overlapping(tensors: Mapping[str, Any]) -> List[List[str]]:
    ranges = []
    for key, tensor in tensors.items():
        if tensor.numel():
            extent = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))
            start = tensor.data_ptr()
            ranges.append((str(tensor.device), start, start + extent * tensor.element_size(), key))
    groups: List[List[str]] = []
    device, end, group = "", 0, []  # type: str, int, List[str]
    for each in sorted(ranges):
        if each[0] != device or each[1] >= end:
            device, end, group = each[0], 0, []
            groups.append(group)
        group.append(each[3])
        end = max(end, each[2])
    return [group for group in groups if len(group) > 1]


def _lie_alike(tensor: Any, view: TensorView) -> bool:
    """Whether elements lie side by side, each once, in the order of dimensions that both have."""
    if tensor.is_contiguous() and view.stride == contiguous_stride(view.shape):
        return True
    return all(ours == theirs for ours, theirs, extent in zip(tensor.stride(), view.stride, view.shape) if extent > 1) and _is_dense(view)


def _is_dense(view: TensorView) -> bool:
    """Whether the elements lie side by side, each once, in whichever order of dimensions."""
    expected = 1
    for step, extent in sorted((step, extent) for step, extent in zip(view.stride, view.shape) if extent > 1):
        if step != expected:
            return False
        expected *= extent
    return True


class _Looker(NamedTuple):
    """A key of the model whose tensor comes from a storage."""

    key: str
    view: TensorView


class _Arrival:
    """One fetch on its way to the model. With a target of None everything stays in the restorer's memory.

    settled: keys of the model whose tensors have their values already.
    """

    def __init__(self, restorer: Restorer, target: Optional[_Target]) -> None:
        self.settled: List[str] = []
        self._restorer = restorer
        self._target = target
        self._lookers: Dict[int, List[_Looker]] = {}  # by number of the buffer
        self._landed: Dict[int, str] = {}  # the key whose memory is that buffer
        if target is not None:
            with collector_paused():
                self._lookers = _direct_lookers(restorer, target)
            for number in self._lookers:
                self._land(number, target)
            self._share_memory()

    def fill(self, fetch: _fetch.BulkSource, report: Optional[_progress.Report]) -> None:
        """Reads the bulk stream."""
        restorer = self._restorer
        sizes = [restorer.manifest.storages[index].size_bytes for index in restorer.bulk]
        fetch.read_into(restorer.buffers, report, sizes=sizes, complete=self._complete)

    def _land(self, number: int, target: _Target) -> None:
        size = self._restorer.manifest.storages[self._restorer.bulk[number]].size_bytes
        lookers = self._lookers[number]
        for key, view in lookers:
            if target.can_be_landed_on(key, view, size):
                if len(lookers) == 1:
                    tensor = target.tensors[key].data
                    self._restorer.use_memory(number, tensor, memory_at(tensor.data_ptr(), size, tensor))
                else:
                    self._restorer.use_memory(number, target.memory_of(key))
                self._landed[number] = key
                return

    def _share_memory(self) -> None:
        """What is on its way to the model has one memory for all: a stream brings one storage after the other, and each is gone when the next one begins."""
        sizes = {number: self._restorer.manifest.storages[self._restorer.bulk[number]].size_bytes for number in self._lookers if number not in self._landed}
        scratch = torch.empty(max(sizes.values(), default=0), dtype=torch.uint8)
        for number, size in sizes.items():
            self._restorer.use_memory(number, scratch[:size])

    def _complete(self, number: int) -> None:
        lookers = self._lookers.get(number)
        if lookers is None or self._target is None:
            self._restorer.complete(number)
            return
        landed = self._landed.get(number)
        for key, view in lookers:
            if landed != key:
                tensor = self._target.tensors[key]
                with torch.no_grad():
                    tensor.copy_(self._restorer.tensor_of(number, view).reshape(tensor.shape))
            self.settled.append(key)
        self._restorer.let_go(number)


def _direct_lookers(restorer: Restorer, target: _Target) -> Dict[int, List[_Looker]]:
    """For each bulk storage that only tensors look at which go straight into tensors of the model: those. Others are not in it."""
    manifest = restorer.manifest
    by_storage: Dict[int, List[_Looker]] = {}
    direct, values = _values_of_root(manifest)
    excluded = {manifest.tensors[node.tensor].storage for index, node in enumerate(manifest.nodes) if node.tensor >= 0 and index not in direct}
    excluded.update(node.storage for node in manifest.nodes if node.storage >= 0)
    views: Dict[str, TensorView] = {}
    for key, index in values:
        view = manifest.tensors[manifest.nodes[index].tensor]
        if key not in target.tensors or view.dtype not in DTYPES:
            excluded.add(view.storage)
            continue
        views[key] = view
        by_storage.setdefault(view.storage, []).append(_Looker(key, view))
    excluded.update(_disputed(target, views))
    numbers = {index: number for number, index in enumerate(restorer.bulk)}
    return {numbers[index]: lookers for index, lookers in by_storage.items() if index in numbers and index not in excluded}


def _values_of_root(manifest: Manifest) -> Tuple[Set[int], List[Tuple[str, int]]]:
    """Nodes of plain tensors that nothing but the root dict refers to, also as parameters; and the keys that they have there."""
    nodes = manifest.nodes
    root = nodes[-1]
    if root.kind not in (Kind.DICT, Kind.ORDERED_DICT):
        return set(), []
    below = {child for node in nodes[:-1] for child in node.children}
    found: List[Tuple[str, int]] = []
    holders = {len(nodes) - 1}
    for key, index in zip(root.children[::2], root.children[1::2]):
        if nodes[index].kind == Kind.PARAMETER and index not in below:
            holders.add(index)
            index = nodes[index].children[0]
        if nodes[index].kind == Kind.TENSOR:
            found.append((str(nodes[key].value), index))
    elsewhere = {child for index, node in enumerate(nodes) if index not in holders for child in node.children}
    direct = {index for _, index in found if index not in elsewhere}
    return direct, [each for each in found if each[1] in direct]


def _disputed(target: _Target, views: Mapping[str, TensorView]) -> Iterable[int]:
    """Storages that would be written over each other: their keys share memory in the model, and are not the same in the checkpoint. PyTorch lets the
    last one win."""
    for group in target.shared:
        present = [key for key in group if key in views]
        is_same = all(views[key] == views[present[0]] and _same_place(target.tensors[key], target.tensors[present[0]]) for key in present)
        if len(present) != len(group) or not is_same:
            for key in present:
                yield views[key].storage


def _same_place(one: Any, other: Any) -> bool:
    return bool(one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype)
