"""Stand-ins for libraries that are not installed: of the classes that ours derive from, with the signatures of their methods, and of nothing else."""

import abc
import importlib.util
import sys
import types


def lightning():
    """`lightning.pytorch`, or `pytorch_lightning`, or else a module that has a CheckpointIO only, and that `sconce.lightning` finds."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name)

    class CheckpointIO(abc.ABC):
        """Of Lightning 2.6."""

        @abc.abstractmethod
        def save_checkpoint(self, checkpoint, path, storage_options=None): ...

        @abc.abstractmethod
        def load_checkpoint(self, path, map_location=None, weights_only=None): ...

        @abc.abstractmethod
        def remove_checkpoint(self, path): ...

        def teardown(self): ...

    if importlib.util.find_spec("fsspec") is None:
        fsspec = _module("fsspec")
        fsspec.AbstractFileSystem = object
        fsspec.register_implementation = lambda name, cls, clobber=False: None
    package = _module("pytorch_lightning")
    package.__version__ = "fake"
    package.LightningModule = object
    _module("pytorch_lightning.plugins")
    _module("pytorch_lightning.plugins.io").CheckpointIO = CheckpointIO
    return package


def transformers():
    """`transformers`, or else a module that has a TrainerCallback only."""
    if importlib.util.find_spec("transformers") is not None:
        return importlib.import_module("transformers")

    class TrainerCallback:
        """Of transformers 5."""

        def on_save(self, args, state, control, **kwargs): ...

        def on_train_end(self, args, state, control, **kwargs): ...

    package = _module("transformers")
    package.__version__ = "fake"
    package.TrainerCallback = TrainerCallback
    return package


def _module(name):
    sys.modules[name] = types.ModuleType(name)
    return sys.modules[name]
