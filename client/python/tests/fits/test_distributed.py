"""torch.distributed.checkpoint with ranks that are processes, against the real server."""

import inspect

import pytest
import sconce
from ranks import launch

torch = pytest.importorskip("torch")
VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
if VERSION < (2, 3):
    pytest.skip(f"PyTorch {torch.__version__} has no torch.distributed.checkpoint with storage writers; 2.3 does", allow_module_level=True)

import rank_actions  # noqa: E402  pylint: disable=wrong-import-position
from sconce._fetch import StreamFetch  # noqa: E402  pylint: disable=wrong-import-position
from sconce.distributed import SconceReader, SconceWriter  # noqa: E402  pylint: disable=wrong-import-position
from torch.distributed.checkpoint.planner import LoadPlan  # noqa: E402  pylint: disable=wrong-import-position


@pytest.mark.parametrize("writers, readers", [(2, 1), (2, 2), (2, 3), (1, 2)])
def test_other_numbers_of_ranks_load_what_ranks_saved(run, tmp_path, writers, readers):
    launch("save", writers, tmp_path / "save", run)
    launch("load", readers, tmp_path / "load", run)


def test_the_version_is_the_nested_state_dict_with_whole_tensors(run, tmp_path):
    launch("save", 2, tmp_path / "save", run)
    info = run.get("saved")
    assert (info.version, info.step, info.epoch, info.metrics) == (1, 1000, 3, {"loss": 0.25})
    loaded = run.load()
    assert isinstance(loaded["listed"], dict)
    loaded["listed"] = [loaded["listed"][index] for index in range(2)]
    rank_actions.check(loaded)
    weights = run.load(branch="/model", only="/rows")
    assert list(weights) == ["rows"] and torch.equal(weights["rows"], rank_actions.whole_tensors()["rows"])


def test_what_was_saved_before_is_not_sent_again(run, tmp_path):
    launch("save", 2, tmp_path / "first", run)
    launch("save", 2, tmp_path / "second", run)
    assert run.get(1).stored_bytes > 1_000_000 and run.get(2).stored_bytes == 0


def test_a_save_in_the_background(run, tmp_path):
    launch("save_later", 2, tmp_path / "save", run)
    launch("load", 1, tmp_path / "load", run)


def test_a_rank_that_cannot_save_lets_none_save(run, tmp_path):
    launch("refuse", 2, tmp_path / "refuse", run)
    launch("save_rows_only", 2, tmp_path / "save", run)
    assert run.get().version == 1


def test_fully_sharded_training_goes_on_with_other_ranks(run, tmp_path):
    pytest.importorskip("torch.distributed.fsdp", reason="no FSDP in this PyTorch")
    if VERSION < (2, 8):
        pytest.skip("fully_shard trains on the CPU in newer releases only")
    launch("save_fsdp", 2, tmp_path / "save", run)
    for readers in (1, 3):
        launch("load_fsdp", readers, tmp_path / f"load-{readers}", run)


def test_a_checkpoint_of_run_save_is_loaded_in_one_process(run):
    saved = {"model": {"fc.weight": torch.rand(40, 50), "n": torch.nn.Parameter(torch.rand(700))}, "step": 3, "groups": [{"lr": 0.1}]}
    run.save(saved)
    loaded = {"model": {name: torch.zeros_like(tensor) for name, tensor in saved["model"].items()}, "step": 0, "groups": [{"lr": 0}]}
    torch.distributed.checkpoint.load(loaded, storage_reader=SconceReader(run))
    assert torch.equal(loaded["model"]["fc.weight"], saved["model"]["fc.weight"]) and torch.equal(loaded["model"]["n"], saved["model"]["n"])
    assert loaded["step"] == 3 and loaded["groups"] == [{"lr": 0.1}]


def test_a_state_dict_that_is_not_flattened(run):
    dcp = torch.distributed.checkpoint
    saved = {"fc.weight": torch.rand(40, 50), "groups": [{"lr": 0.1, "extra": torch.rand(900)}]}
    dcp.save(saved, storage_writer=SconceWriter(run), planner=dcp.DefaultSavePlanner(flatten_state_dict=False))
    loaded = {"fc.weight": torch.zeros(40, 50), "groups": None}
    planner = dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)  # flattening these would load values into a copy
    dcp.load(loaded, storage_reader=SconceReader(run, flatten=False), planner=planner)
    assert torch.equal(loaded["fc.weight"], saved["fc.weight"]) and torch.equal(loaded["groups"][0]["extra"], saved["groups"][0]["extra"])


def test_large_tensors_are_read_in_pieces(run, monkeypatch):
    import sconce._distributed_read as reading

    saved = {"w": torch.rand(1000, 301), "t": torch.rand(301, 1000).t(), "half": torch.rand(2001).to(torch.float16)}
    torch.distributed.checkpoint.save(saved, storage_writer=SconceWriter(run))
    monkeypatch.setattr(reading, "_RUN_BYTES", 100_000)
    monkeypatch.setattr(reading, "_GAP_BYTES", 10)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    torch.distributed.checkpoint.load(loaded, storage_reader=SconceReader(run))
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_only_what_is_wanted_is_read(run, monkeypatch):
    dcp = torch.distributed.checkpoint
    saved = {"first": torch.rand(2000, 1000), "wanted": torch.rand(600), "last": torch.rand(2000, 1000)}
    dcp.save(saved, storage_writer=SconceWriter(run))
    read = []
    original = StreamFetch.read_range
    monkeypatch.setattr(StreamFetch, "read_range", lambda self, start, buffer: (read.append(buffer.nbytes), original(self, start, buffer)))
    loaded = {"wanted": torch.zeros(600)}
    dcp.load(loaded, storage_reader=SconceReader(run))
    assert torch.equal(loaded["wanted"], saved["wanted"]) and read == [2400]


def test_what_ranks_cannot_do_without_each_other_is_refused(run):
    with pytest.raises(ValueError, match="use_collectives"):
        SconceWriter(run).set_up_storage_writer(True, rank=0, use_collectives=False)
    with pytest.raises(ValueError, match="single ranks"):
        SconceReader(run).read_metadata(rank=1)
    plans = [LoadPlan([], storage_data=f"{run.name}/checkpoints/{version}") for version in (1, 2)]
    with pytest.raises(sconce.ConflictError, match="latest moved while the ranks asked for it"):
        SconceReader(run).prepare_global_plan(plans)


def test_cached_plans_are_refused(run):
    dcp = torch.distributed.checkpoint
    if "enable_plan_caching" not in inspect.signature(dcp.DefaultSavePlanner).parameters:
        pytest.skip("this PyTorch does not cache plans")
    for saves in range(2):
        planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
        if saves == 0:
            dcp.save({"w": torch.rand(600)}, storage_writer=SconceWriter(run), planner=planner)
        else:
            with pytest.raises(dcp.api.CheckpointException, match="without enable_plan_caching"):
                dcp.save({"w": torch.rand(600)}, storage_writer=SconceWriter(run), planner=planner)
    assert run.get().version == 1


def test_checkpoint_ids(run, target):
    dcp = torch.distributed.checkpoint
    ref = f"sconce://{target}/{'/'.join(run.name.split('/')[1::2])}"
    saved = {"w": torch.rand(600)}
    dcp.save(saved, checkpoint_id=ref, storage_writer=SconceWriter())
    loaded = {"w": torch.zeros(600)}
    dcp.load(loaded, checkpoint_id=f"{ref}@1", storage_reader=SconceReader())
    assert torch.equal(loaded["w"], saved["w"])
    assert SconceWriter.validate_checkpoint_id(ref) and not SconceReader.validate_checkpoint_id("/tmp/folder")
    with pytest.raises((ValueError, dcp.api.CheckpointException)):
        dcp.save(saved, checkpoint_id="/tmp/folder", storage_writer=SconceWriter())
    with pytest.raises((ValueError, dcp.api.CheckpointException)):
        dcp.save(saved, storage_writer=SconceWriter())


def test_a_missing_key_names_it(run):
    dcp = torch.distributed.checkpoint
    dcp.save({"w": torch.rand(600)}, storage_writer=SconceWriter(run))
    with pytest.raises(dcp.api.CheckpointException, match="Missing key in checkpoint state_dict: other"):
        dcp.load({"other": torch.zeros(600)}, storage_reader=SconceReader(run))
