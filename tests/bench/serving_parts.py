"""What the sections of serving_bench.py share: the programs they start, the load they put on servers, the tables they print."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/support"))

import sconced  # noqa: E402
import stubs  # noqa: E402

import serving_models  # noqa: E402

inference, models = stubs.inference, stubs.models
PROGRAMS = pathlib.Path(os.environ.get("SCONCE_BENCH_DIR", SOURCE / "build/tests"))


class Answers(Exception):
    """A call failed, or its answer was wrong: whatever was measured says nothing."""


def checked(result, what):
    if result["failed"] or result["wrong"] or not result["calls"]:
        raise Answers(f"{what}: of {result['calls']} calls {result['failed']} failed and {result['wrong']} answers were wrong: {result['problem']}")
    return result


def load(target, model, *options, what=""):
    """The result of one run of serving_load, every answer of which was right."""
    words = [str(word) for word in (PROGRAMS / "serving_load", target, model, *options)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise Answers(f"serving_load ended with {done.returncode}: {done.stderr}")
    return checked(json.loads(done.stdout), what or model)


@contextlib.contextmanager
def constant_load(target, model, *options):
    """serving_load until the end of the block; its result is then in the dict that this gives."""
    words = [str(word) for word in (PROGRAMS / "serving_load", target, model, "--until-eof", *options)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        result = {}
        try:
            yield result
        finally:
            process.stdin.close()
            result.update(json.loads(process.stdout.read()))
    checked(result, "under constant load")


class Program:
    """A server that says its address, and answers lines if it has more to say."""

    def __init__(self, *words, **options):
        self.process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        self.target = self.process.stdout.readline().strip()
        if not self.target:
            raise RuntimeError(f"{words[0]} ended with {self.process.wait()}")

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


class Serving:
    """A sconced with runs of modules and weights."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.server = sconced.Server(self.folder / "data").start()
        self.rpc = self.server.stubs()

    @property
    def target(self):
        return self.server.target

    def push(self, run, state, **more):
        return self.rpc.import_file(run, serving_models.saved(state), push=more).version

    def deploy(self, name, run, module, selector="latest", columns=None, **more):
        """`module` is a file; its weights are those of the run."""
        module_name = pathlib.Path(module).stem
        listed = self.server.sconce("module", "push", module, f"{run}@{module_name}", check=False)
        if listed.returncode != 0 and "exists" not in listed.stderr:
            raise RuntimeError(listed.stderr)
        spec = {
            "module": f"projects/default/runs/{run}/modules/{module_name}",
            "weights": {"checkpoint": f"projects/default/runs/{run}/checkpoints/{selector}"},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, columns or serving_models.INPUTS]}],
            **more,
        }
        return self.rpc.models.DeployModel(models.DeployModelRequest(model_id=name, model=spec), timeout=120)

    def stop(self):
        self.rpc.close()
        code = self.server.stop()
        if code != 0:
            raise RuntimeError(f"sconced ended with {code}: {self.server.log_tail()}")


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(*columns):
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def busy():
    """What the machine did beside us, as far as its load tells."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
