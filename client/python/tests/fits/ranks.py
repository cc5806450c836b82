"""Starts the ranks of a distributed job, and is what each of them runs: `ranks.py ACTION RANK WORLD FOLDER TARGET RUN`."""

import faulthandler
import os
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))

TIMEOUT = 300  # seconds


def launch(action, world, folder, run):
    """Runs an action of rank_actions.py in so many processes, which meet in a file of the folder. Fails with what they said."""
    folder.mkdir()
    ranks = []
    for rank in range(world):
        log = open(folder / f"{rank}.log", "wb")  # pylint: disable=consider-using-with
        command = [sys.executable, __file__, action, rank, world, folder, run._connection.options.target, run.name]
        ranks.append((subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT), log))
    codes = []
    try:
        for process, _ in ranks:
            codes.append(process.wait(TIMEOUT))
    except subprocess.TimeoutExpired:
        codes.append("hangs")
    finally:
        for process, log in ranks:
            process.kill()
            process.wait()
            log.close()
    logs = "\n".join(f"--- rank {rank}:\n" + (folder / f"{rank}.log").read_text(encoding="utf-8", errors="replace")[-3000:] for rank in range(world))
    assert codes == [0] * world, logs


def main():
    import rank_actions  # pylint: disable=import-outside-toplevel
    import sconce  # pylint: disable=import-outside-toplevel
    import torch.distributed as dist  # pylint: disable=import-outside-toplevel

    faulthandler.dump_traceback_later(TIMEOUT - 30)  # one that hangs says where, in its log
    action, rank, world, folder, target, run = sys.argv[1:]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=int(rank), world_size=int(world))
    getattr(rank_actions, action)(sconce.connect(target).run(run), int(rank))
    dist.barrier()
    # Not by way of destroy_process_group(): where gRPC 1.51 was used beside it, that of PyTorch 2.6 now and then waits forever for a thread of its own (seen
    # in a program without this package).
    os._exit(0)


if __name__ == "__main__":
    main()
