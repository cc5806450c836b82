"""Warm starts: what PlanLoad says of a hundred random pairs of model and state_dict is what load_state_dict says, in its words, and what a fetch
with the same plan brings is what load_state_dict takes."""

import io
import json

import grpc
import model_pairs
import pytest
import stubs
import torch
from stubs import checkpoints, models

PAIRS = 120


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def pairs(server):
    """All pairs, with their state_dicts in one checkpoint, below /0, /1, ..."""
    made = [model_pairs.pair(seed) for seed in range(PAIRS)]
    rpc = server.stubs()
    name = rpc.import_file("pairs", saved({str(number): one.saved for number, one in enumerate(made)})).name
    rpc.close()
    return name, made


def target_keys(model):
    keys = []
    for key, value in model.state_dict().items():
        tensor = isinstance(value, torch.Tensor)
        keys.append({"key": key, "shape": value.shape if tensor else [], "dtype": str(value.dtype)[6:] if tensor else ""})
    return keys


def load_plan(one):
    return {"target_keys": target_keys(one.model), "rules": one.rules}


def torch_says(one):
    """(error with strict=True, missing, unexpected, error with strict=False) of load_state_dict."""

    def attempt(strict):
        try:
            return one.model.load_state_dict(one.state, strict=strict), ""
        except RuntimeError as error:
            return None, str(error)

    return attempt(True)[1], *attempt(False)


def test_pairs_are_of_every_kind(pairs):
    """Else the others prove little."""
    said = [torch_says(one) for one in pairs[1]]
    assert sum(strict == "" for strict, _, _ in said) >= 3, "some fit"
    assert sum("Missing key" in strict for strict, _, _ in said) >= 30
    assert sum("Unexpected key" in strict for strict, _, _ in said) >= 30
    assert sum("size mismatch" in strict for strict, _, _ in said) >= 30
    assert sum("While copying the parameter" in strict for strict, _, _ in said) >= 10
    assert sum(bool(one.rules["strip_prefixes"]) for one in pairs[1]) >= 30


@pytest.mark.parametrize("number", range(PAIRS))
def test_the_plan_is_what_load_state_dict_says(rpc, pairs, number):
    name, made = pairs
    one = made[number]
    request = checkpoints.PlanLoadRequest(name=name, selection={"root": f"/{number}"}, plan=load_plan(one), target_class="Net")
    answer = rpc.checkpoints.PlanLoad(request, timeout=60)
    strict_error, loaded, lenient_error = torch_says(one)
    assert answer.summary.error == strict_error
    # load_state_dict copies what it can before it raises, so this is the same model as before.
    sentences = [mismatch.message for mismatch in answer.mismatched]
    if lenient_error:
        assert "Error(s) in loading state_dict for Net:\n\t" + "\n\t".join(sentences) == lenient_error
    else:
        assert not sentences
        assert list(answer.missing_keys) == loaded.missing_keys
        assert list(answer.unexpected_keys) == loaded.unexpected_keys
    known = [key.key for key in answer.matched] + list(answer.missing_keys) + [key.key for key in answer.mismatched] + list(answer.defaulted_keys)
    assert sorted(known) == sorted(one.model.state_dict()), "every key of the target is told once"
    assert answer.summary.matched_count == len(answer.matched)


@pytest.mark.parametrize("number", range(0, PAIRS, 4))
def test_a_fetch_with_the_plan_brings_what_load_state_dict_takes(rpc, pairs, number):
    name, made = pairs
    one = made[number]
    plan = rpc.checkpoints.PlanLoad(checkpoints.PlanLoadRequest(name=name, selection={"root": f"/{number}"}, plan=load_plan(one)), timeout=60)
    fetched = torch.load(io.BytesIO(rpc.export_file(name, selection={"root": f"/{number}"}, load_plan=load_plan(one))))
    assert list(fetched) == [key.key for key in plan.matched]
    for key, value in fetched.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == one.state[key].dtype and torch.equal(value, one.state[key])
    loaded = one.model.load_state_dict(fetched, strict=False)
    assert not loaded.unexpected_keys
    not_brought = list(plan.missing_keys) + [key.key for key in plan.mismatched] + list(plan.defaulted_keys)
    assert set(loaded.missing_keys) <= set(not_brought)
    for key, value in one.model.state_dict().items():
        if key in fetched and isinstance(value, torch.Tensor):
            assert torch.equal(value, fetched[key].to(value.dtype).reshape(value.shape))


@pytest.fixture
def fine_tuning(server, tmp_path, run):
    """A checkpoint of a wrapped model, and the file with the state_dict of the model to be fine-tuned: the same with another head."""
    torch.manual_seed(1)
    trained = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 10))
    checkpoint = tmp_path / "trained.pt"
    torch.save({"model_state_dict": torch.nn.DataParallel(trained).state_dict(), "epoch": 3}, checkpoint)
    server.sconce("push", checkpoint, run)
    mine = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    target = tmp_path / "mine.pt"
    torch.save({"net": mine.state_dict()}, target)
    return trained, mine, target


def test_the_tool_shows_what_needs_attention(sconce, sconce_json, fine_tuning, run):
    _, _, target = fine_tuning
    words = ("plan", run, "--branch", "/model_state_dict", "--into", f"{target}#/net")
    shown = sconce(*words).stdout
    assert "0 of 9 keys match (0.0%)" in shown
    assert 'hint: with the prefix "module." taken off, 9 of 9 keys would be found' in shown
    shown = sconce(*words, "--strip-prefix", "module.").stdout
    assert "7 of 9 keys match (77.8%)" in shown and "2 mismatched" in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("2.")] == [["2.weight", "mismatch"], ["2.bias", "mismatch"]]
    assert "0.weight" not in shown, "what fits is not listed"
    assert "0.weight" in sconce(*words, "--strip-prefix", "module.", "--all").stdout
    plan = sconce_json(*words, "--strip-prefix", "module.")
    assert plan["summary"]["matchedCount"] == "7"
    assert plan["mismatched"][0]["message"].startswith("size mismatch for 2.weight: copying a param with shape torch.Size([10, 8]) from checkpoint")
    names = sconce(*words, "--strip-prefix", "module.", "-o", "name").stdout.split()
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_min_match_and_strict_are_errors_of_the_tool(sconce, fine_tuning, run):
    _, _, target = fine_tuning
    words = ("plan", run, "--branch", "/model_state_dict", "--into", f"{target}#/net")
    failed = sconce(*words, "--min-match", "0.5", check=False)
    assert failed.returncode == 1 and "MATCH_RATE_TOO_LOW" in failed.stderr and "module." in failed.stderr
    assert sconce(*words, "--strip-prefix", "module.", "--min-match", "0.5").returncode == 0
    failed = sconce(*words, "--strip-prefix", "module.", "--strict", check=False)
    assert failed.returncode == 1 and "size mismatch for 2.weight" in failed.stderr
    failed = sconce("plan", run, "--into", f"{target}#/net", check=False)
    assert failed.returncode == 1 and "STATE_DICT_INVALID" in failed.stderr and "/model_state_dict" in failed.stderr
    assert sconce("plan", run, check=False).returncode == 2


def test_pull_brings_what_fits(sconce, fine_tuning, run, tmp_path):
    trained, mine, target = fine_tuning
    out = tmp_path / "warm.pt"
    sconce("pull", run, "--root", "/model_state_dict", "--into", f"{target}#/net", "--strip-prefix", "module.", "-o", out)
    loaded = mine.load_state_dict(torch.load(out), strict=False)
    assert loaded.missing_keys == ["2.weight", "2.bias"] and not loaded.unexpected_keys
    assert torch.equal(mine[0].weight, trained[0].weight)
    renamed = tmp_path / "renamed.pt"
    sconce("pull", run, "--root", "/model_state_dict", "--rename", "module.0=encoder", "--rename", "module.*=*", "-o", renamed)
    assert list(torch.load(renamed))[:4] == ["encoder.weight", "encoder.bias", "1.weight", "1.bias"]


def test_a_pushed_module_is_a_target(sconce_json, sconce, fine_tuning, run, tmp_path):
    _, mine, _ = fine_tuning
    module = tmp_path / "mine_scripted.pt"
    torch.jit.script(mine).save(str(module))
    sconce("module", "push", module, f"{run}@mine")
    for target in (("--module", f"{run}@mine"), ("--into", module)):
        plan = sconce_json("plan", run, "--branch", "/model_state_dict", "--strip-prefix", "module.", *target)
        assert [key["key"] for key in plan["matched"]] == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
        assert [key["key"] for key in plan["mismatched"]] == ["2.weight", "2.bias"]


@pytest.mark.parametrize("seed", range(20))
def test_scripted_modules_are_judged_as_their_own_load_state_dict_does(rpc, tmp_path, seed, run):
    """The archive of a random model, read without LibTorch, has the keys that PyTorch sees in it."""
    torch.manual_seed(seed)
    rng = model_pairs.random.Random(seed)

    class Leaf(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(rng.randint(1, 3), 2, bias=rng.random() < 0.5)
            self.norm = torch.nn.BatchNorm1d(2, affine=rng.random() < 0.5)
            self.register_buffer("steps", torch.zeros((), dtype=torch.int32))
            self.low = torch.nn.Parameter(torch.rand(2).half())
            self.plain = torch.rand(5)  # an attribute: no part of a state_dict

        def forward(self, x):
            return self.norm(self.inner(x)) + self.low + self.plain.sum() + self.steps

    scripted = torch.jit.script(torch.nn.Sequential(Leaf(), torch.nn.ReLU(), torch.nn.Sequential(Leaf(), Leaf())))
    file = tmp_path / "module.pt"
    scripted.save(str(file))
    push_module(rpc, run, file.read_bytes())
    state = model_pairs.mutated(rng, scripted.state_dict())
    name = rpc.import_file(run, saved(state)).name
    module = f"projects/default/runs/{run}/modules/m"
    answer = rpc.checkpoints.PlanLoad(checkpoints.PlanLoadRequest(name=name, plan={"module": module}), timeout=60)
    try:
        torch.jit.load(str(file)).load_state_dict(state)
        said = ""
    except RuntimeError as error:
        said = str(error)
    assert answer.summary.error == said
    dtypes = {key: str(value.dtype)[6:] for key, value in scripted.state_dict().items()}
    for key in answer.matched:
        if key.target_dtype:
            assert key.target_dtype == dtypes[key.key] != key.source_dtype


def push_module(rpc, run, archive):
    def messages():
        yield stubs.transfer.PushModuleRequest(header={"name": f"projects/default/runs/{run}/modules/m"})
        yield stubs.transfer.PushModuleRequest(data=archive)

    rpc.transfer.PushModule(messages(), timeout=60)


def test_a_deployment_takes_the_same_rules(rpc, run):
    """A wrapped model's weights served by the module that was wrapped; what the checkpoint lacks stays as the module has it."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(net), scripted)
    push_module(rpc, run, scripted.getvalue())
    weight = torch.rand(2, 3)
    state = {"module.first.weight": weight, "module.first.bias": torch.zeros(2), "module.extra": torch.rand(1)}
    weights = {"checkpoint": rpc.import_file(run, saved({"model": state})).name, "path": "/model"}
    model = {"module": f"projects/default/runs/{run}/modules/m", "weights": weights}
    weights["rules"] = {"strip_prefixes": ["module."], "renames": [{"from": "first", "to": "0"}]}

    def deploy():
        return rpc.models.DeployModel(models.DeployModelRequest(model_id=run, model=model), timeout=120)

    with pytest.raises(grpc.RpcError) as refused:
        deploy()
    if stubs.reason_of(refused.value)[1] == "TORCH_UNAVAILABLE":
        pytest.skip("built without LibTorch")
    assert stubs.reason_of(refused.value)[1] == "MODEL_WEIGHTS_MISMATCH"
    assert 'Missing key(s) in state_dict: "1.weight", "1.bias". ' in refused.value.details()
    weights.update(lenient=True, min_match=0.9)
    with pytest.raises(grpc.RpcError) as refused:
        deploy()
    assert "2 of 4 keys" in refused.value.details()
    weights["min_match"] = 0.5
    deployed = deploy()
    assert deployed.weights.lenient and deployed.weights.rules.renames[0].to == "0"
    x = torch.rand(1, 3)
    request = stubs.inference.ModelInferRequest(model_name=run, inputs=[{"name": "input", "datatype": "FP32", "shape": [1, 3]}])
    request.raw_input_contents.append(x.numpy().tobytes())
    answer = rpc.inference.ModelInfer(request, timeout=60)
    with torch.no_grad():
        net[0].weight.copy_(weight)
        net[0].bias.zero_()
        expected = net(x)
    got = torch.frombuffer(bytearray(answer.raw_output_contents[0]), dtype=torch.float32).reshape(1, 2)
    assert torch.allclose(got, expected)
    rpc.models.UndeployModel(models.UndeployModelRequest(name=deployed.name), timeout=60)


def test_the_answer_in_json_has_the_whole_sentence(sconce, fine_tuning, run):
    _, _, target = fine_tuning
    plan = json.loads(sconce("plan", run, "--branch", "/model_state_dict", "--into", f"{target}#/net", "-o", "json").stdout)
    assert plan["summary"]["error"].startswith("Error(s) in loading state_dict for Module:\n\tMissing key(s) in state_dict: \"0.weight\", ")


def test_a_target_too_large_for_one_call_is_streamed(sconce_json, sconce, run, tmp_path):
    tensors = {f"layers.{number}.weight": torch.zeros(1) for number in range(12_001)}
    target = tmp_path / "target.pt"
    torch.save(tensors, target)
    del tensors["layers.7.weight"]
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"module." + key: value for key, value in tensors.items()}, checkpoint)
    sconce("push", checkpoint, run)
    plan = sconce_json("plan", run, "--into", target, "--strip-prefix", "module.")
    assert len(plan["matched"]) == 12_000 and plan["missingKeys"] == ["layers.7.weight"]
    assert plan["summary"]["targetKeyCount"] == "12001"
