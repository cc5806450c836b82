"""Modules that AOTInductor compiled (`.pt2`): served like TorchScript ones with LibTorch 2.6 or newer, and refused in words with an older one."""

import os
import pathlib
import re
import subprocess
import zipfile

import grpc
import numpy
import pytest
import stubs
import torch
from workers import await_, deploy, infer, needs_torch, workers_of

TORCH = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
is_new = pytest.mark.skipif(TORCH < (2, 6), reason=f"PyTorch {torch.__version__} compiles no packages; 2.6 is the first that does")
pytestmark = needs_torch
LIBRARY = "data/aotinductor/model/cabc.so"


class Net(torch.nn.Module):
    """Small tensors, running statistics, a buffer, a tied weight, and a tensor that only tracing knows."""

    def __init__(self, width=16):
        super().__init__()
        self.first = torch.nn.Linear(8, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.last = torch.nn.Linear(width, 4)
        self.again = torch.nn.Linear(width, 4)
        self.again.weight = self.last.weight
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x, shift):
        hidden = torch.relu(self.norm(self.first(x)))
        return {"out": self.last(hidden) * self.scale + torch.tensor([1.0, 2.0, 3.0, 4.0]), "other": self.again(hidden).sum(1) + shift}


def trained(seed, **options):
    torch.manual_seed(seed)
    net = Net(**options)
    for _ in range(3):
        net(torch.randn(32, 8), torch.zeros(32))
    with torch.no_grad():
        net.scale.mul_(seed + 2)
    return net.eval()


def compile_to(path, net, keep_small=True):
    rows = torch.export.Dim("rows", min=1, max=1024)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(3, 8), torch.randn(3)), dynamic_shapes={"x": {0: rows}, "shift": {0: rows}})
        with torch._inductor.config.patch(always_keep_tensor_constants=keep_small):  # pylint: disable=protected-access
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))  # pylint: disable=protected-access
    return path


def saved(path, net, **more):
    torch.save({"state_dict": net.state_dict(), **more}, path)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Net of seed 1, compiled."""
    return compile_to(tmp_path_factory.mktemp("package") / "net.pt2", trained(1))


def close(rpc, model, net, rows=5):
    """Whether `model` answers as `net` does."""
    x, shift = torch.randn(rows, 8), torch.randn(rows)
    answers = dict(zip(("out", "other"), infer(rpc, model, x.numpy(), shift.numpy())))
    with torch.no_grad():
        expected = net(x, shift)
    return all(numpy.allclose(answers[name], expected[name].numpy(), rtol=1e-5, atol=1e-5) for name in expected)


def made_package(path, library):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "0")
        archive.writestr("archive_format", "pt2")
        archive.writestr(LIBRARY, library)
    return path


@pytest.mark.skipif(TORCH >= (2, 6), reason="this LibTorch runs packages")
def test_an_older_libtorch_says_which_one_it_takes(server, tmp_path):
    result = deploy(server, "old", made_package(tmp_path / "net.pt2", b"\x7fELF"))
    assert result.returncode != 0 and "[TORCH_UNAVAILABLE]" in result.stderr, result.stderr
    linked = re.match(r"\d+\.\d+\.\d+", torch.__version__)[0]
    assert f"takes LibTorch 2.6 or newer, and this server has LibTorch {linked}" in result.stderr, result.stderr


def test_what_is_no_whole_package_is_not_stored(server, tmp_path):
    exported = tmp_path / "exported.pt2"
    with zipfile.ZipFile(exported, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    result = server.sconce("module", "push", exported, "broken@exported", check=False)
    assert result.returncode != 0 and "aoti_compile_and_package" in result.stderr, result.stderr
    damaged = made_package(tmp_path / "net.pt2", b"\x7fELF" + bytes(100))
    damaged.write_bytes(damaged.read_bytes().replace(b"\x7fELF", b"\x7fELG"))
    result = server.sconce("module", "push", damaged, "broken@damaged", check=False)
    assert result.returncode != 0 and "CRC-32" in result.stderr, result.stderr


@is_new
def test_a_package_answers_as_its_module_does_with_its_own_weights_and_with_others(server, rpc, package, tmp_path):
    deploy(server, "own", package, check=True)
    assert close(rpc, "own", trained(1))
    other = trained(2)
    deploy(server, "other", package, saved(tmp_path / "other.pt", other), path="/state_dict", check=True)
    assert close(rpc, "other", other)
    assert not close(rpc, "other", trained(1)), "all nets answer the same: this shows nothing"
    for rows in (1, 2, 64):
        assert close(rpc, "other", other, rows)
    metadata = rpc.inference.ModelMetadata(stubs.inference.ModelMetadataRequest(name="other"), timeout=10)
    assert [one.name for one in metadata.inputs] == ["INPUT__0", "INPUT__1"]
    assert [one.name for one in metadata.outputs] == ["out", "other"]


@is_new
def test_a_deployment_follows_the_best_weights(server, rpc, package, tmp_path):
    server.sconce("module", "push", package, "follow@net")
    nets = {seed: trained(seed) for seed in (3, 4)}
    server.sconce("push", saved(tmp_path / "3.pt", nets[3], loss=0.5), "follow")
    server.sconce("model", "deploy", "follow", "--module", "follow@net", "--weights", "follow@best", "--path", "/state_dict")
    assert close(rpc, "follow", nets[3])
    server.sconce("push", saved(tmp_path / "4.pt", nets[4], loss=0.25), "follow")
    await_(lambda: close(rpc, "follow", nets[4]), "the new best is not served", seconds=120)


@is_new
def test_weights_that_do_not_fit_are_refused_in_torchs_words(server, rpc, package, tmp_path):
    def refusal(model, state, *flags):
        torch.save(state, tmp_path / f"{model}.pt")
        server.sconce("module", "push", package, f"{model}-run@net")
        server.sconce("push", tmp_path / f"{model}.pt", f"{model}-run")
        arguments = ("--module", f"{model}-run@net", "--weights", f"{model}-run@latest", *flags)
        result = server.sconce("model", "deploy", model, *arguments, check=False)
        assert flags or (result.returncode != 0 and "[MODEL_WEIGHTS_MISMATCH]" in result.stderr), result.stderr
        return result.stderr

    state = trained(5).state_dict()
    missing = {key: tensor for key, tensor in state.items() if key != "first.bias"}
    assert 'Missing key(s) in state_dict: "first.bias"' in refusal("missing", missing)
    assert 'Unexpected key(s) in state_dict: "extra"' in refusal("unexpected", {**state, "extra": torch.ones(3)})
    wide = refusal("wide", trained(5, width=24).state_dict())
    assert "size mismatch for first.weight: copying a param with shape torch.Size([24, 8]) from checkpoint" in wide, wide
    assert "the shape in current model is torch.Size([16, 8])" in wide, wide

    assert refusal("lenient", missing, "--lenient") == ""
    mixed = trained(5)
    with torch.no_grad():
        mixed.first.bias.copy_(trained(1).first.bias)
    assert close(rpc, "lenient", mixed), "what is missing is not as the package has it"

    run = "projects/default/runs/wide-run"
    server.sconce("push", tmp_path / "missing.pt", "wide-run")
    halves = {"module": f"{run}/modules/net", "weights": {"checkpoint": f"{run}/checkpoints/2", "lenient": True}, "cast": {"dtype": "float16"}}
    with pytest.raises(grpc.RpcError) as error:
        rpc.models.DeployModel(stubs.models.DeployModelRequest(model_id="halves", model=halves), timeout=120)
    assert "dtype mismatch for first.weight: the weight is cast to Half, the package was compiled for Float" in error.value.details()


@is_new
def test_small_tensors_that_were_compiled_in_are_missed_not_forgotten(server, tmp_path):
    inlined = compile_to(tmp_path / "inlined.pt2", trained(6), keep_small=False)
    result = deploy(server, "inlined", inlined, saved(tmp_path / "weights.pt", trained(7)), path="/state_dict")
    assert result.returncode != 0 and "[MODEL_WEIGHTS_MISMATCH]" in result.stderr, result.stderr
    assert '"scale"' in result.stderr and "always_keep_tensor_constants" in result.stderr, result.stderr


@is_new
def test_what_the_code_says_is_wrong_reaches_the_caller(server, rpc, package):
    deploy(server, "picky", package, check=True)
    with pytest.raises(grpc.RpcError) as error:
        infer(rpc, "picky", numpy.ones((3, 7), numpy.float32), numpy.ones(3, numpy.float32))
    assert stubs.reason_of(error.value)[:2] == ("INTERNAL", "MODEL_FAILED")
    assert "cannot be multiplied (3x7 and 8x16)" in error.value.details()
    assert close(rpc, "picky", trained(1)), "it does not serve on"


@is_new
def test_requests_ride_together_when_the_rows_are_dynamic(server, rpc, package):
    server.sconce("module", "push", package, "rows@net")
    spec = {"module": "projects/default/runs/rows/modules/net", "batching": {"max_batch_size": 4, "max_queue_delay": {"seconds": 10}}}
    rpc.models.DeployModel(stubs.models.DeployModelRequest(model_id="rows", model=spec), timeout=120)
    net, inputs = trained(1), [(torch.randn(1, 8), torch.randn(1)) for _ in range(4)]

    def call(x, shift):
        request = stubs.inference.ModelInferRequest(
            model_name="rows",
            inputs=[{"name": f"INPUT__{i}", "datatype": "FP32", "shape": list(t.shape)} for i, t in enumerate((x, shift))],
            raw_input_contents=[x.numpy().tobytes(), shift.numpy().tobytes()],
        )
        return rpc.inference.ModelInfer.future(request, timeout=120)

    for (x, shift), future in [(pair, call(*pair)) for pair in inputs]:
        out = numpy.frombuffer(future.result().raw_output_contents[0], numpy.float32)
        with torch.no_grad():
            assert numpy.allclose(out, net(x, shift)["out"].numpy().reshape(-1), rtol=1e-5, atol=1e-5)
    answer = rpc.inference.ModelStatistics(stubs.inference.ModelStatisticsRequest(name="rows"), timeout=10)
    assert {one.batch_size: one.compute_infer.count for one in answer.model_stats[0].batch_stats} == {4: 1}


@is_new
def test_a_worker_with_compiled_code_is_behind_all_walls(server, package):
    before = set(workers_of(server))
    deploy(server, "walled", package, check=True)
    workers = set(workers_of(server)) - before
    assert workers
    for worker in workers:
        for task in pathlib.Path(f"/proc/{worker}/task").iterdir():
            status = (task / "status").read_text()
            field = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
            # Two filters: the one that lets a library be loaded, and the one that does not.
            assert field["Seccomp"] == "2" and field.get("Seccomp_filters", "2") == "2" and field["NoNewPrivs"] == "1"
            assert int(field["CapEff"], 16) == 0 and int(field["CapBnd"], 16) == 0
        assert os.geteuid() != 0 or os.readlink(f"/proc/{worker}/fd/2") == "/dev/null"


# A library whose constructor tries what it must not, and ends its process with 40 and how much of that went well.
ATTACK = r"""
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <initializer_list>

__attribute__((constructor)) static void Attack() {
  int done = 0;
  const char* read[] = {"SECRET", "/etc/passwd", "/proc/1/environ", "/proc/self/mem", "../../../../etc/passwd"};
  for (const char* path : read) done += open(path, O_RDONLY) >= 0;
  for (const char* path : read) done += open(path, O_RDWR) >= 0;
  done += open("MADE", O_WRONLY | O_CREAT, 0600) >= 0;
  done += mkdir("MADE", 0700) == 0;
  done += socket(AF_INET, SOCK_STREAM, 0) >= 0;
  done += dlopen("libutil.so.1", RTLD_NOW) != nullptr && dlopen("libthread_db.so.1", RTLD_NOW) != nullptr;
  for (int fd = 0; fd < 256; ++fd) {
    char path[64];
    for (const char* folder : {"/proc/self/fd/%d", "/%d"}) {
      snprintf(path, sizeof(path), folder, fd);
      done += open(path, O_RDWR) >= 0;
      struct stat info;
      const int again = open(path, O_RDONLY);
      done += again >= 0 && fstat(again, &info) == 0 && !S_ISCHR(info.st_mode) && info.st_nlink > 0;
    }
  }
  _exit(40 + done);
}
"""


def compiled_attack(tmp_path):
    source = tmp_path / "attack.cc"
    source.write_text(ATTACK.replace("SECRET", str(tmp_path / "secret")).replace("MADE", str(tmp_path / "made")))
    (tmp_path / "secret").write_text("secret")
    library = tmp_path / "attack.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True, timeout=120)
    return library


@is_new
def test_a_librarys_constructors_run_inside_the_walls(server, tmp_path):
    library = compiled_attack(tmp_path)
    # Outside of them the attack is one.
    outside = subprocess.run(["python3", "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"], check=False, timeout=60)
    assert outside.returncode > 45, outside.returncode
    (tmp_path / "made").unlink()
    result = deploy(server, "attack", made_package(tmp_path / "attack.pt2", library.read_bytes()))
    assert result.returncode != 0 and re.search(r"\b40\b", result.stderr), f"{result.stderr} (40 and more: that many attempts went well)"
    assert not (tmp_path / "made").exists()


@is_new
def test_a_library_that_is_none_is_refused_in_words(server, tmp_path):
    result = deploy(server, "text", made_package(tmp_path / "text.pt2", b"no library at all"))
    assert result.returncode != 0 and "[MODULE_INVALID]" in result.stderr, result.stderr
    assert "the package cannot be loaded: " in result.stderr, result.stderr
