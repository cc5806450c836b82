"""Objects saved and loaded against the real server, with PyTorch as the judge."""

import collections
import datetime

import pytest
import sconce

torch = pytest.importorskip("torch")


@pytest.fixture
def run(server, run_name):
    with sconce.connect(server.target) as client:
        yield client.run(run_name)


def trained(seed=0):
    """A checkpoint as trainers write it: a model with tied weights and a BatchNorm, its optimizer, and what goes with them."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(collections.OrderedDict(a=torch.nn.Linear(400, 400), n=torch.nn.BatchNorm1d(400), b=torch.nn.Linear(400, 400)))
    model.b.weight = model.a.weight
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(8, 400)).sum().backward()
    optimizer.step()
    return model, {"epoch": 3, "loss": 0.25, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}


def same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and ours.stride() == theirs.stride() and torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            same(one, other)
    else:
        assert ours == theirs


def test_a_training_goes_on_from_what_was_saved(run, server, tmp_path):
    model, checkpoint = trained()
    info = run.save(checkpoint, step=100, labels={"by": "me"}, aliases=["stable"], expire=datetime.timedelta(days=9), progress=False)
    assert (info.version, info.step, info.epoch, info.metrics, info.labels, info.aliases) == (1, 100, 3, {"loss": 0.25}, {"by": "me"}, ("stable",))
    assert info.uploaded_bytes > 640_000 and info.expire_time is not None
    loaded = run.load("best", map_location="cpu", progress=False)
    same(loaded, checkpoint)
    state = loaded["model_state_dict"]
    assert state["a.weight"].data_ptr() == state["b.weight"].data_ptr() and state._metadata == model.state_dict()._metadata
    torch.nn.Module.load_state_dict(model, state)
    server.sconce("pull", f"{info.ref}", "-o", tmp_path / "out.pt")
    same(torch.load(tmp_path / "out.pt"), checkpoint)


def test_a_second_save_sends_only_what_changed(run):
    _, checkpoint = trained(seed=77)
    first = run.save(checkpoint)
    second = run.save({**checkpoint, "epoch": 4})
    assert first.uploaded_bytes > 640_000 and (second.version, second.epoch, second.uploaded_bytes) == (2, 4, 0)


def test_parts_of_a_version(run):
    _, checkpoint = trained()
    run.save(checkpoint)
    same(run.load(branch="/model_state_dict"), checkpoint["model_state_dict"])
    part = run.load(only="/a.*", branch="/model_state_dict")
    assert list(part) == ["a.weight", "a.bias"]
    assert "a.bias" not in run.load(exclude=["/model_state_dict/*.bias"])["model_state_dict"]
    with pytest.raises(sconce.NotFoundError) as error:
        run.load(branch="/nothing")
    assert error.value.reason == "PATH_NOT_FOUND"


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, {"/model_state_dict/**": torch.bfloat16}])
def test_casts_on_the_way(run, dtype):
    _, checkpoint = trained()
    run.save(checkpoint)
    state = run.load(dtype=dtype)["model_state_dict"]
    assert torch.equal(state["a.weight"], checkpoint["model_state_dict"]["a.weight"].to(torch.bfloat16))
    assert state["n.num_batches_tracked"].dtype == torch.int64
    with pytest.raises(sconce.InvalidArgumentError) as error:
        run.load(dtype="int8")
    assert error.value.reason == "CAST_INVALID"


@pytest.mark.parametrize("map_location", [None, "cpu", torch.device("cpu"), {"cpu": "cpu"}, lambda storage, tag: storage])
def test_where_tensors_go(run, map_location):
    _, checkpoint = trained()
    run.save(checkpoint)
    same(run.load(map_location=map_location), checkpoint)


def test_a_device_that_is_not_here(run):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    run.save({"w": torch.rand(1000)})
    with pytest.raises(RuntimeError, match="(?i)cuda"):
        run.load(map_location="cuda:0")
    with pytest.raises(sconce.InvalidArgumentError) as error:
        run.load(map_location="gpu")
    assert error.value.reason == "DEVICE_INVALID"


def test_progress_is_told(run):
    saved, loaded = [], []
    value = {"w": torch.rand(3 << 20)}
    run.save(value, progress=lambda *at: saved.append(at))
    run.load(progress=lambda *at: loaded.append(at))
    assert saved[-1] == loaded[-1] == (12 << 20, 12 << 20) and len(loaded) >= 6


def test_what_cannot_be_stored_is_named_before_anything_is_sent(run):
    with pytest.raises(ValueError, match="/model"):
        run.save({"model": torch.nn.Linear(2, 2)})
    with pytest.raises(sconce.InvalidArgumentError, match="alias"):
        run.save({}, aliases=["latest"])
    with pytest.raises(sconce.NotFoundError):
        run.info()


def test_metrics_of_any_kind(run):
    info = run.save({}, metrics={"loss": torch.tensor(0.5), "steps": 3})
    assert info.metrics == {"loss": 0.5, "steps": 3.0}
    with pytest.raises(sconce.InvalidArgumentError) as error:
        run.save({"loss": 0.5}, metrics={"loss": 0.25})
    assert error.value.reason == "ATTRIBUTE_CONFLICT"


def test_a_checkpoint_of_the_command_line_tool(run, run_name, server, tmp_path):
    _, checkpoint = trained()
    torch.save(checkpoint, tmp_path / "a.pt")
    server.sconce("push", tmp_path / "a.pt", run_name)
    same(run.load(), checkpoint)
