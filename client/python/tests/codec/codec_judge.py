"""Whether two objects are the same to the bit, as tests/support/judge.py describes them, and ways to make one out of the other."""

import warnings

import judge

from sconce._capture import capture
from sconce._restore import Restorer

try:
    judge.allow_all()
except Exception as error:  # pylint: disable=broad-except  # of a PyTorch that is built without a part
    print(f"judge: {error}")


class _WithoutOffsets(judge._Describer):
    """Takes no notice of where in its storage a tensor begins: of storages that are seen in part only that part is kept."""

    def strided(self, t):
        described = super().strided(t)
        return described[:3] + described[4:]


def described(value, offsets=True):
    return (judge._Describer() if offsets else _WithoutOffsets()).describe(value)


def fill(restorer, storages):
    assert len(restorer.buffers) == len(storages)
    for buffer, storage in zip(restorer.buffers, storages):
        assert len(buffer) == len(storage)
        buffer[:] = storage


def restored(captured, **options):
    restorer = Restorer(captured.manifest_bytes, **options)
    fill(restorer, captured.storages)
    return restorer.finish()


def round_trip(value, **options):
    return restored(capture(value, **options))


def load(path, **options):
    """What torch.load makes of a file, wherever it trusts it."""
    plain = {"weights_only": False} if judge.VERSION >= (2, 0) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return judge.load(path, **{**plain, **options})
