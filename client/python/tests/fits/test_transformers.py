"""Hugging Face's Trainer with its checkpoints on the real server; the callback's methods also where transformers is not installed (see fakes)."""

import json
import pathlib
import random
import shutil
import types

import fakes
import numpy
import pytest
import sconce

torch = pytest.importorskip("torch")
transformers = fakes.transformers()

from sconce.transformers import SconceCallback, restore  # noqa: E402  pylint: disable=wrong-import-position

needs_transformers = pytest.mark.skipif(transformers.__version__ == "fake", reason="transformers is not installed: its class was faked")
HISTORY = [{"loss": 3.0, "step": 10}, {"eval_loss": 2.5, "eval_runtime": 1.0, "step": 5}, {"eval_loss": 1.5, "eval_accuracy": 0.9, "step": 10}]


def write_checkpoint(output_dir, step=10):
    """A folder as a Trainer writes it."""
    folder = pathlib.Path(output_dir) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    model = torch.nn.Linear(100, 30)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(4, 100)).sum().backward()
    optimizer.step()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save({"last_epoch": 3, "_last_lr": [0.1]}, folder / "scheduler.pt")
    state = {"python": random.getstate(), "numpy": numpy.random.get_state(), "cpu": torch.random.get_rng_state()}
    torch.save(state, folder / "rng_state.pth")
    torch.save(types.SimpleNamespace(learning_rate=0.1), folder / "training_args.bin")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": HISTORY}))
    (folder / "tokenizer.json").write_bytes(bytes(range(256)) * 1000)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "config.json").write_text("{}")
    return folder


def call_on_save(callback, output_dir, step=10, is_zero=True):
    state = types.SimpleNamespace(global_step=step, epoch=1.5, is_world_process_zero=is_zero, log_history=HISTORY)
    callback.on_save(types.SimpleNamespace(output_dir=str(output_dir)), state, control=None, model=None)
    return state


def same_files(one, other):
    """That two folders have the same files; those of torch.save with the same in them."""
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert names == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    for name in names:
        if name.suffix in (".pt", ".pth") or name.name == "pytorch_model.bin":
            same(torch.load(other / name, **UNSAFE), torch.load(one / name, **UNSAFE))
        else:
            assert (other / name).read_bytes() == (one / name).read_bytes(), name


UNSAFE = {"weights_only": False}


def same(ours, theirs):
    if isinstance(theirs, (torch.Tensor, numpy.ndarray)):
        assert type(ours) is type(theirs) and ours.dtype == theirs.dtype and (ours == theirs).all()
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs) and type(ours) is type(theirs)
        for one, other in zip(ours, theirs):
            same(one, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("background", [True, False])
def test_a_folder_comes_back_as_it_was(run, tmp_path, background):
    folder = write_checkpoint(tmp_path / "out")
    callback = SconceCallback(run, labels={"who": "me"}, aliases=["newest"], background=background)
    state = call_on_save(callback, tmp_path / "out")
    callback.on_train_end(None, state, None)
    info = run.get("newest")
    assert info.name == callback.last_saved.name
    assert (info.step, info.epoch, info.labels) == (10, 1, {"who": "me"})
    assert info.metrics == {"eval_loss": 1.5, "eval_accuracy": 0.9, "loss": 1.5}
    restored = restore(run, "best", tmp_path / "restored")
    assert restored == str(tmp_path / "restored/checkpoint-10")
    same_files(folder, pathlib.Path(restored))
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["checkpoint-10"]


def test_weights_serve_alone(run, tmp_path):
    folder = write_checkpoint(tmp_path)
    callback = SconceCallback(run, background=False)
    call_on_save(callback, tmp_path)
    same(run.load(branch="/model_state_dict"), torch.load(folder / "pytorch_model.bin", **UNSAFE))


def test_only_process_zero_saves(run, tmp_path):
    call_on_save(SconceCallback(run), tmp_path, is_zero=False)
    with pytest.raises(sconce.NotFoundError):
        run.get()


def test_what_went_wrong_in_the_background_is_raised(target, tmp_path):
    write_checkpoint(tmp_path)
    write_checkpoint(tmp_path, 20)
    callback = SconceCallback(sconce.connect("unix:/nowhere", retries=1).run("r"))
    call_on_save(callback, tmp_path)
    with pytest.raises(sconce.UnavailableError):
        call_on_save(callback, tmp_path, 20)
    callback.flush()  # told once


def test_a_state_that_is_not_data_is_kept_as_bytes(run, tmp_path):
    folder = write_checkpoint(tmp_path / "out")
    torch.save({"state": {}, "big": frozenset([1])}, folder / "scheduler.pt")
    with open(folder / "scheduler.pt", "rb") as file:
        content = file.read()
    callback = SconceCallback(run, background=False)
    if hasattr(torch.serialization, "safe_globals"):
        torch.serialization.add_safe_globals([frozenset])
    call_on_save(callback, tmp_path / "out")
    assert run.load()["files"]["scheduler.pt"] == content


def test_a_folder_that_exists_is_replaced_only_when_asked(run, tmp_path):
    write_checkpoint(tmp_path)
    call_on_save(SconceCallback(run, background=False), tmp_path)
    with pytest.raises(FileExistsError):
        restore(run, 1, tmp_path)
    (tmp_path / "checkpoint-10/left over").touch()
    restore(run, 1, tmp_path, replace=True)
    assert not (tmp_path / "checkpoint-10/left over").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", ".."])
def test_file_names_do_not_lead_out_of_the_folder(run, tmp_path, name):
    run.save({"global_step": 1, "trainer_state": "{}", "files": {name: b"x"}})
    with pytest.raises(ValueError, match="leads out of its folder"):
        restore(run, 1, tmp_path / "a/b")
    assert not list((tmp_path / "a/b").iterdir())


def test_another_version_is_told(run, tmp_path):
    run.save({"w": torch.rand(3)})
    with pytest.raises(ValueError, match="does not come from a SconceCallback"):
        restore(run, 1, tmp_path)


# With the real Trainer


class Data(torch.utils.data.Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.rand(32, 8, generator=generator)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"x": self.rows[index], "labels": self.rows[index].sum()}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 300), torch.nn.Dropout(0.2), torch.nn.Linear(300, 1))

    def forward(self, x, labels):
        predicted = self.net(x)[:, 0]
        return {"loss": (predicted - labels).square().mean(), "logits": predicted}


def make_trainer(folder, callback=None):
    names = transformers.TrainingArguments.__dataclass_fields__
    evaluation = "eval_strategy" if "eval_strategy" in names else "evaluation_strategy"
    on_cpu = {"use_cpu": True} if "use_cpu" in names else {"no_cuda": True}
    args = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=4, per_device_train_batch_size=8, logging_steps=1, save_steps=4, eval_steps=4, save_total_limit=1,
        save_strategy="steps", seed=5, report_to=[], disable_tqdm=True, learning_rate=0.01, **{evaluation: "steps"}, **on_cpu,
    )  # fmt: skip
    return transformers.Trainer(Model(), args, train_dataset=Data(), eval_dataset=Data(), callbacks=[callback] if callback else [])


def losses(trainer):
    return [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


@needs_transformers
def test_training_goes_on_from_a_restored_folder_bit_for_bit(run, tmp_path):
    whole = make_trainer(tmp_path / "whole", SconceCallback(run))
    whole.train()
    assert [info.step for info in run.list()] == [16, 12, 8, 4]
    middle = next(info for info in run.list() if info.step == 8)
    assert middle.metrics["loss"] == middle.metrics["eval_loss"]
    shutil.rmtree(tmp_path / "whole")
    resumed = make_trainer(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=restore(run, middle.version, tmp_path / "resumed"))
    assert len(losses(whole)) == 16 and losses(resumed) == losses(whole)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


@needs_transformers
def test_a_small_bert(run, tmp_path):
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=32
    )
    torch.manual_seed(1)
    model = transformers.BertForMaskedLM(config)
    rows = [{"input_ids": torch.arange(16) + i, "labels": torch.arange(16) + i} for i in range(8)]
    on_cpu = {"use_cpu": True} if "use_cpu" in transformers.TrainingArguments.__dataclass_fields__ else {"no_cuda": True}
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=2, save_steps=2, save_strategy="steps", report_to=[], disable_tqdm=True, **on_cpu
    )
    transformers.Trainer(model, args, train_dataset=rows, callbacks=[SconceCallback(run)]).train()
    restored = pathlib.Path(restore(run, "latest", tmp_path / "restored"))
    original = tmp_path / "out/checkpoint-2"
    assert {path.name for path in restored.iterdir()} == {path.name for path in original.iterdir()}
    assert (restored / "training_args.bin").read_bytes() == (original / "training_args.bin").read_bytes()
    loaded = transformers.BertForMaskedLM.from_pretrained(restored)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
