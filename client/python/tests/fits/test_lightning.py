"""Lightning's Trainer with its checkpoints on the real server; CheckpointIO's methods also where Lightning is not installed (see fakes)."""

import argparse
import enum
import importlib
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))  # for when it is run

import fakes
import numpy
import pytest
import sconce

torch = pytest.importorskip("torch")
lightning = fakes.lightning()

from sconce.lightning import SconceCheckpointIO  # noqa: E402  pylint: disable=wrong-import-position


def why_no_trainer():
    if lightning.__version__ == "fake":
        return "Lightning is not installed: its class was faked"
    try:
        importlib.import_module("torch.distributed._shard.sharded_tensor")
    except ValueError as error:  # 1.13 with Python 3.11, as Debian 12 has them
        return f"Lightning's Trainer does not run with PyTorch {torch.__version__} on this Python: {error}"
    except ImportError:
        pass
    return ""


needs_lightning = pytest.mark.skipif(bool(why_no_trainer()), reason=why_no_trainer())


class Phase(enum.Enum):
    FIT = "fit"


class AttributeDict(dict):
    def __getattr__(self, key):
        return self[key]


def checkpoint(epoch=1, score=0.5):
    """As a Trainer's looks."""
    return {
        "epoch": epoch,
        "global_step": 10 * epoch,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": {"layer.weight": torch.full((30, 40), float(epoch))},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}}}},
        "callbacks": {"ModelCheckpoint": {"monitor": "val_loss", "current_score": torch.tensor(score), "dirpath": pathlib.Path("/runs")}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(lr=0.1, phase=Phase.FIT, args=argparse.Namespace(root=pathlib.Path("/data")), scale=numpy.float32(2)),
    }


def test_what_is_saved_to_a_path_is_loaded_from_it(run):
    io = SconceCheckpointIO(run)
    io.save_checkpoint(checkpoint(), "/runs/epoch=1.ckpt")
    loaded = io.load_checkpoint("/runs/epoch=1.ckpt", map_location=lambda storage, _: storage, weights_only=False)
    assert torch.equal(loaded["state_dict"]["layer.weight"], torch.full((30, 40), 1.0))
    assert loaded["hyper_parameters"] == {"lr": 0.1, "phase": "fit", "args": {"root": "/data"}, "scale": 2.0}
    assert loaded["optimizer_states"][0]["state"][0]["step"] == 3
    info = run.get()
    assert (info.epoch, info.step, info.metrics, info.labels) == (1, 10, {"val_loss": 0.5}, {"lightning.path": "/runs/epoch=1.ckpt"})
    assert io.last_saved.name == info.name


def test_a_path_means_its_newest_version(run):
    io = SconceCheckpointIO(run, labels={"who": "me"})
    for epoch in (1, 2):
        io.save_checkpoint(checkpoint(epoch), "/runs/last.ckpt")
    assert io.load_checkpoint("/runs/last.ckpt")["epoch"] == 2
    assert [(info.version, info.labels["who"]) for info in run.list()] == [(2, "me"), (1, "me")]


def test_overwritten_versions_are_deleted_where_that_is_wanted(run):
    io = SconceCheckpointIO(run, keep_overwritten=False)
    io.save_checkpoint(checkpoint(1), "/runs/other.ckpt")
    for epoch in (1, 2, 3):
        io.save_checkpoint(checkpoint(epoch), "/runs/last.ckpt")
    assert [info.version for info in run.list()] == [4, 1]


def test_a_removed_path_is_gone_with_all_its_versions(run):
    io = SconceCheckpointIO(run)
    for epoch, path in ((1, "/runs/last.ckpt"), (2, "/runs/last.ckpt"), (2, "/runs/epoch=2.ckpt")):
        io.save_checkpoint(checkpoint(epoch), path)
    io.remove_checkpoint("/runs/last.ckpt")
    io.remove_checkpoint("/runs/never.ckpt")
    assert [info.version for info in run.list()] == [3]
    with pytest.raises(sconce.NotFoundError, match="saved as /runs/last.ckpt"):
        io.load_checkpoint("/runs/last.ckpt")


def test_what_is_not_data_is_refused_by_its_place(run):
    refused = {**checkpoint(), "hyper_parameters": {"model": {"activation": torch.nn.ReLU}}}
    with pytest.raises(sconce.InvalidArgumentError, match="/hyper_parameters/model/activation: type: ReLU itself, code, is not stored"):
        SconceCheckpointIO(run).save_checkpoint(refused, "/runs/a.ckpt")


def test_urls_name_run_and_server(run, target):
    project, name = run.name.split("/")[1::2]
    folder = f"sconce://{target}/{project}/{name}"
    io = SconceCheckpointIO()
    io.save_checkpoint(checkpoint(3), f"{folder}/fold-1/last.ckpt", storage_options={"aliases": ["kept"], "labels": {"who": "me"}})
    assert run.get("kept").labels == {"lightning.path": "fold-1/last.ckpt", "who": "me"}
    assert SconceCheckpointIO(run).load_checkpoint(f"{folder}/fold-1/last.ckpt")["epoch"] == 3
    assert io.load_checkpoint(f"{folder}@kept")["epoch"] == 3
    with pytest.raises(ValueError, match="is a version that there is"):
        io.save_checkpoint(checkpoint(), f"{folder}@kept")
    io.teardown()
    assert io.load_checkpoint(f"{folder}/fold-1/last.ckpt")["epoch"] == 3  # a Trainer may go on after its teardown
    with pytest.raises(sconce.InvalidArgumentError, match="does not name a run"):
        io.save_checkpoint(checkpoint(), "/runs/last.ckpt")
    with pytest.raises(TypeError):
        io.save_checkpoint(checkpoint(), f"{folder}/last.ckpt", storage_options="something")


def test_long_and_odd_paths(run):
    io = SconceCheckpointIO(run)
    paths = ["/runs/" + "very-long/" * 60 + name for name in ("a.ckpt", "b.ckpt")] + ["/other/" + "very-long/" * 60 + "a.ckpt"]
    paths += ["/runs/a \"quoted\" \\ path.ckpt", "/runs/a \"quoted\" path.ckpt", "/runs/\N{SNOWMAN}.ckpt"]
    for epoch, path in enumerate(paths, 1):
        io.save_checkpoint(checkpoint(epoch), path)
    assert [io.load_checkpoint(path)["epoch"] for path in paths] == [1, 2, 3, 4, 5, 6]


# With the real Trainer


class Data(torch.utils.data.Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.rand(32, 8, generator=generator)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def make_model(dies_in_epoch=None):
    class Model(lightning.LightningModule):
        def __init__(self, width=300, root=pathlib.Path("/data"), dies_in_epoch=None):
            super().__init__()
            self.save_hyperparameters()
            torch.manual_seed(2)
            self.net = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
            self.dies_in_epoch = dies_in_epoch

        def training_step(self, batch, index):
            if self.current_epoch == self.dies_in_epoch and index == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.net(batch).square().mean()

        def validation_step(self, batch, _):
            self.log("val_loss", self.net(batch).square().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]

    return Model(dies_in_epoch=dies_in_epoch)


def make_trainer(folder, dirpath, io, epochs, **options):
    keep = {"save_top_k": 2, "save_last": True, "monitor": "val_loss", "filename": "{epoch}"}
    checkpoints = lightning.callbacks.ModelCheckpoint(dirpath=dirpath, **{**keep, **options})
    return lightning.Trainer(
        default_root_dir=folder, max_epochs=epochs, plugins=[io], callbacks=[checkpoints], logger=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip


def fit(trainer, model, **options):
    loaders = [torch.utils.data.DataLoader(Data(), batch_size=8, shuffle=False) for _ in range(2)]
    trainer.fit(model, *loaders, **options)
    return model


def files_in(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


@needs_lightning
def test_a_killed_trainer_goes_on_from_its_path_and_rotates(run, tmp_path):
    command = [sys.executable, __file__, run._connection.options.target, run.name, tmp_path / "killed"]
    killed = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=280)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = str(tmp_path / "killed/last.ckpt")
    resumed = make_model()
    trainer = make_trainer(tmp_path, tmp_path / "killed", SconceCheckpointIO(run), 5)
    fit(trainer, resumed, ckpt_path=last)
    assert trainer.current_epoch == 5
    assert not files_in(tmp_path / "killed")
    saved = [(info.epoch, info.labels["lightning.path"].rpartition("/")[2]) for info in run.list()]
    assert sorted(epoch for epoch, name in saved if name == "last.ckpt") == [0, 1, 2, 3, 4], saved
    assert len([name for _, name in saved if name != "last.ckpt"]) == 2, saved  # save_top_k
    whole = fit(make_trainer(tmp_path / "whole", tmp_path / "whole", SconceCheckpointIO(run), 5), make_model())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@needs_lightning
def test_a_trainer_goes_on_from_last_of_a_url(run, target, tmp_path):
    project, name = run.name.split("/")[1::2]
    url = f"sconce://{target}/{project}/{name}/fold-1"
    fit(make_trainer(tmp_path, url, SconceCheckpointIO(), 2), make_model())
    first = {info.labels["lightning.path"] for info in run.list()}
    assert {"fold-1/last.ckpt", "fold-1/epoch=1.ckpt"} <= first
    trainer = make_trainer(tmp_path, url, SconceCheckpointIO(), 3)
    fit(trainer, make_model(), ckpt_path="last")
    assert trainer.current_epoch == 3 and trainer.global_step == 12
    best = trainer.checkpoint_callback.best_model_path
    assert best.startswith(url)
    trainer.validate(make_model(), torch.utils.data.DataLoader(Data(), batch_size=8), ckpt_path="best", verbose=False)
    assert run.get().step == 12 and "val_loss" in run.get().metrics
    assert not files_in(tmp_path)


@needs_lightning
def test_saving_in_the_background(run, tmp_path):
    from sconce.lightning import CheckpointIO

    package = CheckpointIO.__module__.partition(".")[0].replace("lightning_fabric", "pytorch_lightning")
    plugins = __import__(f"{package}.pytorch.plugins.io" if package == "lightning" else f"{package}.plugins.io", fromlist=["AsyncCheckpointIO"])
    io = plugins.AsyncCheckpointIO(SconceCheckpointIO(run))
    fit(make_trainer(tmp_path, tmp_path, io, 2, save_top_k=-1, save_last=False), make_model())
    assert sorted(info.epoch for info in run.list()) == [0, 1]
    assert io.load_checkpoint(tmp_path / "epoch=1.ckpt")["epoch"] == 1


def main():
    """Trains until it is killed, in the third of five epochs."""
    target, name, folder = sys.argv[1:]
    fit(make_trainer(folder, folder, SconceCheckpointIO(sconce.connect(target).run(name)), 5), make_model(dies_in_epoch=2))


if __name__ == "__main__":
    main()
