"""Warm starts: what of a version fits a model, by the server's word and before a byte of a tensor moves."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from sconce import _refs
from sconce._connection import Connection
from sconce._errors import PreconditionError, SconceError
from sconce._info import CheckpointInfo
from sconce._proto import v1
from sconce._retry import Retrying

Prefixes = Union[str, Sequence[str]]
Renames = Union[Mapping[str, str], Sequence[Tuple[str, str]]]

_SERVICE = "sconce.v1.CheckpointService"
_MAX_KEYS = 10_000  # of one PlanLoad; more go through PlanLargeLoad
_MAX_BYTES = 2 << 20  # of the keys of one message; servers take 4 MiB


class IncompatibleKeys(NamedTuple):
    """What load_state_dict returns.

    >>> IncompatibleKeys([], [])
    <All keys matched successfully>
    >>> IncompatibleKeys(["fc.bias"], [])
    IncompatibleKeys(missing_keys=['fc.bias'], unexpected_keys=[])
    """

    missing_keys: List[str]
    unexpected_keys: List[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"


class LoadStateDictError(PreconditionError, RuntimeError):
    """A version does not fit a model. The message is what load_state_dict would have raised, and `plan` says all that is known about it."""

    def __init__(self, message: str, plan: LoadPlan) -> None:
        metadata = {"model": plan.model_class, "checkpoint": plan.checkpoint.name}
        if plan.hint:
            metadata["hint"] = plan.hint
        super().__init__("FAILED_PRECONDITION", "MODEL_WEIGHTS_MISMATCH", metadata, message)
        self.plan = plan

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.message, self.plan)


@dataclasses.dataclass(frozen=True)
class LoadPlan:
    """What load_state_dict would find. Lists are in PyTorch's order.

    checkpoint: the version, with its number. model_class: of the model, as errors name it.
    matched: by key of the model, the key of the version as it was saved. converted: those whose dtype differs: by key, (the version's, the model's).
    missing_keys, unexpected_keys: in the model only, and in the version only.
    mismatched: by key that is in both and cannot be loaded, PyTorch's sentence.
    defaulted_keys: in the model only, and PyTorch fills them in by itself.
    match_rate: the share of the model's keys that match, 0 to 1, without the defaulted ones.
    transfer_bytes: what a load with this plan moves.
    hint: what to try when little matches, e.g. which prefix to take off; may be empty.
    """

    checkpoint: CheckpointInfo
    model_class: str
    matched: Dict[str, str]
    converted: Dict[str, Tuple[str, str]]
    missing_keys: List[str]
    unexpected_keys: List[str]
    mismatched: Dict[str, str]
    defaulted_keys: List[str]
    match_rate: float
    transfer_bytes: int
    hint: str

    def error(self, strict: bool = True) -> str:
        """What load_state_dict would raise, word for word; empty when it would load."""
        sentences = list(self.mismatched.values())
        if strict and self.unexpected_keys:
            sentences.insert(0, f"Unexpected key(s) in state_dict: {_quoted(self.unexpected_keys)}. ")
        if strict and self.missing_keys:
            sentences.insert(0, f"Missing key(s) in state_dict: {_quoted(self.missing_keys)}. ")
        return "Error(s) in loading state_dict for {}:\n\t{}".format(self.model_class, "\n\t".join(sentences)) if sentences else ""

    def check(self, strict: bool = True) -> None:
        """LoadStateDictError when it would not load."""
        error = self.error(strict)
        if error:
            raise LoadStateDictError(error, self)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing_keys) + len(self.mismatched)
        counts = [f"{len(self.matched)} of {total} keys match ({self.match_rate:.1%})"]
        for what in ("mismatched", "missing_keys", "unexpected_keys", "converted"):
            if getattr(self, what):
                counts.append(f"{len(getattr(self, what))} {what.replace('_keys', '')}")
        return f"{self.checkpoint.ref} into {self.model_class}: {', '.join(counts)}{'; hint: ' if self.hint else ''}{self.hint}"


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def key_rules(strip_prefix: Prefixes, add_prefix: str, rename: Renames) -> Any:
    """As a `sconce.v1.KeyRules`.

    >>> rules = key_rules("module.", "", [("encoder", "backbone")])
    >>> list(rules.strip_prefixes), rules.renames[0].to
    (['module.'], 'backbone')
    """
    prefixes = [strip_prefix] if isinstance(strip_prefix, str) else list(strip_prefix)
    rules = v1.KeyRules(strip_prefixes=[prefix for prefix in prefixes if prefix], add_prefix=add_prefix)
    for old, new in rename.items() if isinstance(rename, Mapping) else rename:
        rules.renames.add(to=new, **{"from": old})
    return rules


def target_keys(state_dict: Mapping[str, Any]) -> List[Any]:
    """As `sconce.v1.TargetKey`s. ValueError for lazy modules, whose shapes are not known yet."""
    keys = []
    make = v1.TargetKey
    for key, value in state_dict.items():
        kind = type(value)
        if hasattr(kind, "materialize"):
            raise ValueError(f'"{key}" is not initialized yet: run a lazy module once before anything is loaded into it')
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        keys.append(make(key=key) if shape is None or dtype is None else make(key=key, shape=shape, dtype=dtype_name(dtype)))
    return keys


_dtype_names: Dict[Any, str] = {}


def dtype_name(dtype: Any) -> str:
    """As the format has it, e.g. "float32"."""
    name = _dtype_names.get(dtype)
    if name is None:
        name = _dtype_names[dtype] = str(dtype).rpartition(".")[2]
    return name


def batches(keys: Sequence[Any]) -> Iterator[List[Any]]:
    """The keys in pieces that fit into a message; one of none when there are none."""
    batch: List[Any] = []
    size = 0
    for key in keys:
        key_size = key.ByteSize() + 8
        if batch and size + key_size > _MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += key_size
    yield batch


def make_plan(
    connection: Connection, ref: _refs.Ref, branch: str, keys: Sequence[Any], model_class: str, rules: Any, min_match: Optional[float]
) -> LoadPlan:
    """Asks the server. Errors: those of PlanLoad, MATCH_RATE_TOO_LOW among them."""
    request = v1.PlanLoadRequest(name=ref.checkpoint_name, target_class=model_class)
    request.selection.root = branch
    request.plan.rules.CopyFrom(rules)
    request.plan.min_match = min_match or 0.0
    pieces = list(batches(keys))
    request.plan.target_keys.extend(pieces[0])
    if len(pieces) == 1 and len(keys) <= _MAX_KEYS:
        return _from_answer(connection.call(f"{_SERVICE}/PlanLoad", request), model_class)
    retrying = Retrying(connection.options.retry)
    while True:
        try:
            return _from_answer(_large_plan(connection, request, pieces[1:]), model_class)
        except SconceError as error:
            retrying.wait(error)


def _large_plan(connection: Connection, request: Any, more: Sequence[Sequence[Any]]) -> Any:
    whole = v1.PlanLoadResponse()
    with connection.dialog(f"{_SERVICE}/PlanLargeLoad") as dialog:
        is_open = dialog.send(request.SerializeToString())
        for piece in more:
            is_open = is_open and dialog.send(v1.PlanLoadRequest(plan=v1.LoadPlan(target_keys=piece)).SerializeToString())
        dialog.half_close()
        answer = dialog.receive(wait=True)
        while answer is not None:
            whole.MergeFrom(answer)  # lists grow, and all else is in the first one
            answer = dialog.receive(wait=True)
        dialog.finish()
    return whole


def _from_answer(answer: Any, model_class: str) -> LoadPlan:
    return LoadPlan(
        checkpoint=CheckpointInfo.from_message(answer.summary.checkpoint),
        model_class=model_class,
        matched={each.key: each.source_key or each.key for each in answer.matched},
        converted={each.key: (each.source_dtype, each.target_dtype) for each in answer.matched if each.source_dtype and each.target_dtype},
        missing_keys=list(answer.missing_keys),
        unexpected_keys=list(answer.unexpected_keys),
        mismatched={each.key: each.message for each in answer.mismatched},
        defaulted_keys=list(answer.defaulted_keys),
        match_rate=answer.summary.match_rate,
        transfer_bytes=answer.summary.transfer_bytes,
        hint=answer.summary.hint,
    )
