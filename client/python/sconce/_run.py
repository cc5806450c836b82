"""A run: its versions and their aliases."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

from sconce import _refs, _watch
from sconce._background import SaveFuture
from sconce._connection import Connection
from sconce._info import CheckpointInfo, RunInfo, TreeEntry, from_expiry
from sconce._plan import IncompatibleKeys, LoadPlan
from sconce._progress import Wanted as Progress
from sconce._proto import v1

if TYPE_CHECKING:
    from sconce._parts import VersionWriter

Selector = Union[str, int]  # a version number, "latest", "best" or an alias

_SERVICE = "sconce.v1.CheckpointService"
_UNCHANGED: Any = object()


class Run:
    """A run of a project, which need not exist yet: the first save makes it. Thread-safe and picklable. Made by Client.run()."""

    def __init__(self, connection: Connection, ref: _refs.Ref) -> None:
        self._connection = connection
        self._ref = ref

    @property
    def name(self) -> str:
        """`projects/{project}/runs/{run}`."""
        return self._ref.run_name

    def __repr__(self) -> str:
        return f"<sconce.Run {self._ref} at {self._connection.options.target}>"

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self._connection, self._ref)

    def save(
        self,
        obj: Any,
        *,
        step: Optional[int] = None,
        epoch: Optional[int] = None,
        metrics: Optional[Mapping[str, Any]] = None,
        labels: Optional[Mapping[str, str]] = None,
        aliases: Sequence[str] = (),
        pinned: bool = False,
        expire: Union[None, datetime.datetime, datetime.timedelta] = None,
        progress: Progress = None,
    ) -> CheckpointInfo:
        """Saves what torch.save would take, tensors anywhere in dicts and lists of plain values, as a new version. Makes the run when there is none.

        Only what the server does not have is sent. A server that restarts meanwhile is waited for, as is a save_async of this client that is under way. Tensors
        must not change until it returns.

        step, epoch, metrics: by default the object's own, of its keys `step` or `global_step`, `epoch`, `loss`, `metrics`.
        aliases: set to the new version afterwards. expire: a moment, or a time from now.
        progress: None for a bar where somebody looks at it, False, True, or a callable that gets (bytes done, bytes in all).

        Returns the version, with `uploaded_bytes`. InvalidArgumentError for what cannot be stored, naming the places, before anything is sent;
        ResourceExhaustedError (DISK_FULL); UnavailableError when the server stays away.
        """
        from sconce import _saving  # pylint: disable=import-outside-toplevel

        about = _saving.About(step, epoch, metrics, labels, tuple(aliases), pinned, expire)
        return _saving.save(self._connection, self._ref, obj, about, progress)

    def save_async(
        self,
        obj: Any,
        *,
        step: Optional[int] = None,
        epoch: Optional[int] = None,
        metrics: Optional[Mapping[str, Any]] = None,
        labels: Optional[Mapping[str, str]] = None,
        aliases: Sequence[str] = (),
        pinned: bool = False,
        expire: Union[None, datetime.datetime, datetime.timedelta] = None,
        progress: Progress = False,
    ) -> SaveFuture:
        """Saves as save does, and returns as soon as it has a copy of all tensors: training may go on at once. The copy is sent in the background.

        One save at a time: a next save or save_async of the same client waits for this one first, so that there is never more than one copy, and raises what it failed
        with, unless the future or wait() did; it saves nothing then. The process does not end before the save does, and says on stderr what it waits for,
        and what was lost. Arguments: as save; progress is called on another thread.

        Returns a future: result(timeout) is the version. InvalidArgumentError: as save, at once.
        """
        from sconce import _saving  # pylint: disable=import-outside-toplevel

        about = _saving.About(step, epoch, metrics, labels, tuple(aliases), pinned, expire)
        return _saving.save_async(self._connection, self._ref, obj, about, progress)

    def begin(
        self,
        *,
        step: Optional[int] = None,
        epoch: Optional[int] = None,
        metrics: Optional[Mapping[str, Any]] = None,
        labels: Optional[Mapping[str, str]] = None,
        aliases: Sequence[str] = (),
        pinned: bool = False,
        expire: Union[None, datetime.datetime, datetime.timedelta] = None,
        parts: int = 1,
        part: Optional[int] = None,
        upload_id: str = "",
        timeout: float = 600.0,
        progress: Progress = None,
    ) -> VersionWriter:
        """A version that is put together: `with run.begin(step=3) as version: version.put("model", model.state_dict())`. It is there when the block ends
        (version.info), and not if that raises.

        Without `part` this process brings all of it; with parts=N each of N puts is sent at once, so that what was put may be freed or changed before the
        next one. With `part` this is one of N ranks, each of which enters with the same arguments but for that, from 0 on; their dicts are united, and all get the
        same version, after waiting for each other for at most `timeout` seconds. When one raises, the others get NotFoundError (UPLOAD_NOT_FOUND), and nothing is
        saved. The server keeps what was sent: ranks that are started again with the same upload_id send only what is missing.

        upload_id: by which ranks find each other, e.g. f"{job}-{step}"; another one for each version. The other arguments: see save; aliases are set by rank 0.
        Errors: as save; DeadlineError (UPLOAD_INCOMPLETE) naming the parts that are missing; PreconditionError (PARTS_OVERLAP, PARTS_INCOMPLETE);
        AlreadyExistsError (UPLOAD_ALREADY_EXISTS) when ranks say different things about the version.
        """
        from sconce import _parts, _saving  # pylint: disable=import-outside-toplevel

        about = _saving.About(step, epoch, metrics, labels, tuple(aliases), pinned, expire)
        return _parts.VersionWriter(self._connection, self._ref, about, parts, part, upload_id, timeout, progress)

    def wait(self, timeout: Optional[float] = None) -> None:
        """Client.wait: returns when no save_async is under way, or raises what it failed with."""
        self._connection.saves.wait(timeout)

    def load(
        self,
        selector: Selector = "latest",
        *,
        map_location: Any = None,
        dtype: Any = None,
        only: Union[None, str, Sequence[str]] = None,
        exclude: Union[None, str, Sequence[str]] = None,
        branch: str = "",
        progress: Progress = None,
    ) -> Any:
        """Loads a version as torch.load would: what was saved, with ties, views and classes as they were. No code of the checkpoint's is run.

        map_location: all that torch.load takes. dtype: what floats become on the way, for all ("bfloat16" or torch.bfloat16) or by patterns ({"/model/**":
        "float16"}). branch: the path of the node to be returned in place of the whole, e.g. "/model_state_dict". only, exclude: patterns of paths of tensors,
        from there on, e.g. "/layer1.*"; others are not sent. progress: see save.

        NotFoundError: as get, and PATH_NOT_FOUND; PreconditionError (CHECKPOINT_OPAQUE); DataLossError; InvalidArgumentError (DEVICE_INVALID, CAST_INVALID,
        PATTERN_INVALID, FILE_UNSUPPORTED for what this PyTorch lacks).
        """
        from sconce import _loading  # pylint: disable=import-outside-toplevel

        return _loading.load(
            self._connection, self._version(selector), map_location=map_location, dtype=dtype, only=only, exclude=exclude, branch=branch, progress=progress
        )

    def load_into(
        self,
        model: Any,
        selector: Selector = "latest",
        *,
        branch: str = "",
        strict: bool = True,
        assign: bool = False,
        map_location: Any = None,
        dtype: Any = None,
        strip_prefix: Union[str, Sequence[str]] = "",
        add_prefix: str = "",
        rename: Union[Mapping[str, str], Sequence[Tuple[str, str]]] = (),
        min_match: Optional[float] = None,
        progress: Progress = None,
    ) -> IncompatibleKeys:
        """`model.load_state_dict(run.load(selector, branch=branch), strict, assign)`, but only what fits the model is sent, and there is no second copy of it:
        tensors come straight into the model's own, or where those are of another dtype, layout or device, one storage after the other.

        branch: the path of the state_dict, e.g. "/model_state_dict". strip_prefix, add_prefix, rename: what is done to the version's keys before they
        are compared, in this order: prefixes off, a prefix on, then ("old", "new") patterns, as in docs/warm_start.md. min_match: the least share of the model's
        keys that must match, 0 to 1. assign: the model takes over the tensors as they come, dtype and device included (PyTorch 2.1 and newer); only then
        map_location matters, as in load. dtype: see load; the model's own dtypes win unless assign. progress: see save.

        Returns (missing_keys, unexpected_keys), as load_state_dict. What that would raise is raised word for word, a LoadStateDictError, which is a
        RuntimeError, and so are the errors of load and of the rules (InvalidArgumentError: PATTERN_INVALID, RENAME_COLLISION, STATE_DICT_INVALID;
        PreconditionError: MATCH_RATE_TOO_LOW): nothing of the model has changed then. A transfer that breaks for good (UnavailableError, DataLossError) leaves
        new values in some tensors and old ones in others, to be loaded again; with assign=True it changes nothing either.
        """
        from sconce import _load_into, _plan  # pylint: disable=import-outside-toplevel

        return _load_into.load_into(
            self._connection,
            self._version(selector),
            model,
            branch=branch,
            strict=strict,
            assign=assign,
            map_location=map_location,
            dtype=dtype,
            rules=_plan.key_rules(strip_prefix, add_prefix, rename),
            min_match=min_match,
            progress=progress,
        )

    def plan(
        self,
        model: Any,
        selector: Selector = "latest",
        *,
        branch: str = "",
        strip_prefix: Union[str, Sequence[str]] = "",
        add_prefix: str = "",
        rename: Union[Mapping[str, str], Sequence[Tuple[str, str]]] = (),
        min_match: Optional[float] = None,
    ) -> LoadPlan:
        """What load_into would find, without loading anything: print it, or look at its missing_keys, unexpected_keys, mismatched, match_rate, hint.

        model: a torch.nn.Module, or a state_dict, of which only names, shapes and dtypes are looked at. The rest and the errors: see load_into.
        """
        from sconce import _load_into, _plan  # pylint: disable=import-outside-toplevel

        rules = _plan.key_rules(strip_prefix, add_prefix, rename)
        return _load_into.plan(self._connection, self._version(selector), model, branch, rules, min_match)

    def info(self) -> RunInfo:
        """What the server says about the run. NotFoundError."""
        return RunInfo.from_message(self._connection.call(f"{_SERVICE}/GetRun", v1.GetRunRequest(name=self.name)))

    def get(self, selector: Selector = "latest") -> CheckpointInfo:
        """A version, without its content. NotFoundError: RUN_NOT_FOUND, CHECKPOINT_NOT_FOUND, ALIAS_NOT_FOUND, LATEST_UNDEFINED, BEST_UNDEFINED."""
        answer = self._connection.call(f"{_SERVICE}/GetCheckpoint", v1.GetCheckpointRequest(name=self._checkpoint(selector)))
        return CheckpointInfo.from_message(answer)

    def list(self, filter: str = "", order_by: str = "") -> Iterator[CheckpointInfo]:  # pylint: disable=redefined-builtin
        """All versions or those that a filter takes, newest first or in another order; fetched page by page.

        filter: e.g. 'metrics.loss < 0.3 AND labels.stage = "final"'; the grammar is at ListCheckpointsRequest in checkpoint_service.proto. order_by: "version",
        "create_time", "epoch", "step" or "metrics.NAME", with " desc" behind it for descending; versions that lack it are not listed.
        NotFoundError; InvalidArgumentError (FILTER_INVALID, naming the place).
        """
        request = v1.ListCheckpointsRequest(parent=self.name, page_size=1000, filter=filter, order_by=order_by)
        for page in self._connection.pages(f"{_SERVICE}/ListCheckpoints", request):
            yield from map(CheckpointInfo.from_message, page.checkpoints)

    def delete(self, selector: Selector, *, force: bool = False, allow_missing: bool = False, etag: str = "") -> None:
        """Deletes a version. `force`: although aliases or a pin hold it, and the aliases with it. `etag`: only if it is the current one.

        NotFoundError; PreconditionError (CHECKPOINT_PROTECTED); ConflictError (ETAG_MISMATCH).
        """
        name = self._checkpoint(selector)
        request = v1.DeleteCheckpointRequest(name=name, force=force, allow_missing=allow_missing, etag=etag)
        # A number means the same when it is asked for again; `best` means another version when the first try did its work.
        self._connection.call(f"{_SERVICE}/DeleteCheckpoint", request, repeatable=allow_missing and str(selector).isdigit())

    def set_alias(self, alias: str, selector: Selector = "latest", *, etag: str = "", must_be_new: bool = False) -> int:
        """Creates an alias or moves it, to what the selector means now. Returns the version. NotFoundError; ConflictError (ETAG_MISMATCH)."""
        name = f"{self.name}/aliases/{_refs.check_alias(alias)}"
        request = v1.SetAliasRequest(name=name, selector=_refs.check_selector(str(selector)), etag=etag, must_be_new=must_be_new)
        answer = self._connection.call(f"{_SERVICE}/SetAlias", request, repeatable=str(selector).isdigit() and not etag and not must_be_new)
        return int(answer.version)

    def aliases(self) -> Dict[str, int]:
        """Version by alias. NotFoundError."""
        pages = self._connection.pages(f"{_SERVICE}/ListAliases", v1.ListAliasesRequest(parent=self.name, page_size=1000))
        return {alias.name.rpartition("/")[2]: alias.version for page in pages for alias in page.aliases}

    def delete_alias(self, alias: str, *, etag: str = "") -> None:
        """Deletes an alias; the version stays. NotFoundError; ConflictError (ETAG_MISMATCH)."""
        request = v1.DeleteAliasRequest(name=f"{self.name}/aliases/{_refs.check_alias(alias)}", etag=etag)
        self._connection.call(f"{_SERVICE}/DeleteAlias", request, repeatable=False)

    def update(
        self,
        selector: Selector,
        *,
        metrics: Optional[Mapping[str, float]] = None,
        labels: Optional[Mapping[str, str]] = None,
        pinned: Optional[bool] = None,
        expire: Union[None, datetime.datetime, datetime.timedelta] = _UNCHANGED,
        etag: str = "",
    ) -> CheckpointInfo:
        """Changes what is said about a version. What is not given stays.

        metrics: added to those there are; `best` moves with them. labels: in place of those there are. expire: a moment, a time from now, or None for never.
        NotFoundError; AlreadyExistsError (METRIC_ALREADY_SET); ConflictError (ETAG_MISMATCH).
        """
        request = v1.UpdateCheckpointRequest()
        request.checkpoint.name, request.checkpoint.etag = self._checkpoint(selector), etag
        mask = request.update_mask.paths
        if metrics is not None:
            mask.append("metrics")
            request.checkpoint.metrics.update(metrics)
        if labels is not None:
            mask.append("labels")
            request.checkpoint.labels.update(labels)
        if pinned is not None:
            mask.append("pinned")
            request.checkpoint.pinned = pinned
        if expire is not _UNCHANGED:
            mask.append("expire_time")
            if expire is not None:
                request.checkpoint.expire_time.FromDatetime(from_expiry(expire))
        if not mask:
            return self.get(selector)
        answer = self._connection.call(f"{_SERVICE}/UpdateCheckpoint", request, repeatable=str(selector).isdigit() and not etag)
        return CheckpointInfo.from_message(answer)

    def describe(
        self, selector: Selector = "latest", *, root: str = "", include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> Iterator[TreeEntry]:
        """What is in a version, without a byte of its tensors: each node of its tree, parents before children; fetched page by page.

        root: the path of the node to begin at. include, exclude: patterns of paths below it, as `/model_state_dict/**`.
        NotFoundError; PreconditionError (CHECKPOINT_OPAQUE); DataLossError (CHECKPOINT_QUARANTINED); InvalidArgumentError (PATTERN_INVALID).
        """
        request = v1.DescribeCheckpointRequest(name=self._checkpoint(selector), page_size=1000)
        request.selection.root = root
        request.selection.include.extend(include)
        request.selection.exclude.extend(exclude)
        for page in self._connection.pages(f"{_SERVICE}/DescribeCheckpoint", request):
            yield from map(TreeEntry.from_message, page.entries)

    def watch(self, selector: str = "latest", *, patience: float = 600.0) -> Iterator[CheckpointInfo]:
        """Each version that `latest`, `best` or an alias comes to mean, as it happens: first the current one, when there is one. Does not end by itself.

        Of `latest` each new version comes in its turn; `best` and aliases that moved several times at once come as what they mean now.
        A connection that breaks, or a server that restarts, is waited for: for at most `patience` seconds at a time, then UnavailableError. What happened
        meanwhile is not missed. To end it, break out of a loop over it, close the iterator, or close the client.
        NotFoundError when there is no such run, or when it is deleted; InvalidArgumentError for a selector that cannot move.
        """
        version = self._version(selector)
        if version.selector.isdigit():
            sentence = f"version {version.selector} never changes: watch 'latest', 'best' or an alias"
            raise _refs.invalid("SELECTOR_INVALID", sentence, {"selector": version.selector})
        return _watch.watch(self._connection, version, patience)

    def _version(self, selector: Selector) -> _refs.Ref:
        return _refs.Ref(self._ref.project, self._ref.run, _refs.check_selector(str(selector)))

    def _checkpoint(self, selector: Selector) -> str:
        return self._version(selector).checkpoint_name


def all_runs(connection: Connection, project: str) -> Iterator[RunInfo]:
    """Runs of a project, or of all when it is empty, ordered by project and name; fetched page by page."""
    parent = f"projects/{_refs.check_id('project', project) if project else '-'}"
    for page in connection.pages(f"{_SERVICE}/ListRuns", v1.ListRunsRequest(parent=parent, page_size=1000)):
        yield from map(RunInfo.from_message, page.runs)
