"""Run.load_into against the real server, with load_state_dict as the judge."""

import collections
import copy
import pickle

import pytest
import sconce
from between import Between, Cut
from sconce import _plan

torch = pytest.importorskip("torch")

import model_pairs  # noqa: E402  pylint: disable=wrong-import-position
from same_values import assert_same  # noqa: E402  pylint: disable=wrong-import-position

PAIRS = 120
HAS_ASSIGN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 1)


@pytest.fixture
def run(server, run_name):
    with sconce.connect(server.target) as client:
        yield client.run(run_name)


@pytest.fixture(scope="module")
def pairs(server):
    """All pairs, their state_dicts in one version, below /0, /1, ..."""
    made = [model_pairs.pair(seed) for seed in range(PAIRS)]
    with sconce.connect(server.target) as client:
        run = client.run("pairs")
        run.save({str(number): one.saved for number, one in enumerate(made)})
        yield run, made


def values(model):
    return collections.OrderedDict((key, copy.deepcopy(value)) for key, value in model.state_dict().items())


def attempt(load):
    try:
        return load(), ""
    except RuntimeError as error:
        return None, str(error)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("number", range(PAIRS))
def test_it_does_what_load_state_dict_does(pairs, number, strict):
    run, made = pairs
    one = made[number]
    ours, theirs = copy.deepcopy(one.model), copy.deepcopy(one.model)
    before = values(ours)
    memory = {name: tensor.data_ptr() for name, tensor in ours.named_parameters()}
    expected, error = attempt(lambda: theirs.load_state_dict(one.state, strict=strict))
    got, our_error = attempt(
        lambda: run.load_into(ours, branch=f"/{number}", strict=strict, strip_prefix=one.rules["strip_prefixes"], progress=False)
    )
    assert our_error == error
    if error:
        assert_same(values(ours), before)
        return
    assert got == tuple(expected) and repr(got).replace("IncompatibleKeys", "_IncompatibleKeys") == repr(expected)
    assert_same(values(ours), values(theirs))
    assert memory == {name: tensor.data_ptr() for name, tensor in ours.named_parameters()}


@pytest.mark.skipif(not HAS_ASSIGN, reason="assign came with PyTorch 2.1")
@pytest.mark.parametrize("number", range(0, PAIRS, 3))
def test_assign_does_what_load_state_dict_does(pairs, number):
    run, made = pairs
    one = made[number]
    ours, theirs = copy.deepcopy(one.model), copy.deepcopy(one.model)
    before = values(ours)
    expected, error = attempt(lambda: theirs.load_state_dict(one.state, strict=False, assign=True))
    rules = one.rules["strip_prefixes"]
    got, our_error = attempt(lambda: run.load_into(ours, branch=f"/{number}", strict=False, assign=True, strip_prefix=rules, progress=False))
    assert our_error == error
    if error:
        assert_same(values(ours), before)
    else:
        assert got == tuple(expected)
        assert_same(values(ours), values(theirs))
        assert {key: type(value) for key, value in ours.named_parameters()} == {key: type(value) for key, value in theirs.named_parameters()}


@pytest.mark.skipif(HAS_ASSIGN, reason="this PyTorch has assign")
def test_assign_is_not_of_this_pytorch(run):
    with pytest.raises(TypeError, match="2.1"):
        run.load_into(torch.nn.Linear(2, 2), assign=True)


def net(seed, **shapes):
    torch.manual_seed(seed)
    return torch.nn.Sequential(collections.OrderedDict((name, torch.nn.Linear(*shape)) for name, shape in shapes.items()))


def landed(monkeypatch):
    """Counts the tensors that bytes come straight into, and those that are copied to when their storage is whole."""
    from sconce import _load_into  # pylint: disable=import-outside-toplevel

    counts = collections.Counter()
    land, complete = _load_into._Arrival._land, _load_into._Arrival._complete

    def counted_land(self, number, target):
        land(self, number, target)
        counts["landed"] += number in self._landed

    def counted_complete(self, number):
        counts["held" if number not in self._lookers else "settled"] += 1
        complete(self, number)

    monkeypatch.setattr(_load_into._Arrival, "_land", counted_land)
    monkeypatch.setattr(_load_into._Arrival, "_complete", counted_complete)
    return counts


def test_bytes_come_straight_into_the_model(run, monkeypatch):
    source, model = net(1, a=(300, 40), b=(40, 300)), net(2, a=(300, 40), b=(40, 300))
    run.save({"model": source.state_dict()})
    counts = landed(monkeypatch)
    assert repr(run.load_into(model, branch="/model")) == "<All keys matched successfully>"
    assert_same(model.state_dict(), source.state_dict())
    assert counts == {"landed": 3, "settled": 3}  # the fourth is so small that it comes in the manifest


def test_other_dtypes_and_layouts_are_converted_storage_by_storage(run, monkeypatch):
    source, model = net(1, a=(300, 40), b=(40, 300)), net(2, a=(300, 40), b=(40, 300)).to(torch.bfloat16)
    run.save(source.state_dict())
    model.b.weight.data = torch.rand(40, 300).t()  # float32 and column by column
    counts = landed(monkeypatch)
    run.load_into(model)
    assert torch.equal(model.a.weight, source.a.weight.to(torch.bfloat16)) and torch.equal(model.b.weight, source.b.weight)
    assert model.b.weight.stride() == (1, 300)
    assert +counts == {"settled": 3}


def test_a_cast_by_the_server_lands(run, monkeypatch):
    source, model = net(1, a=(300, 40)), net(2, a=(300, 40)).to(torch.bfloat16)
    run.save(source.state_dict())
    counts = landed(monkeypatch)
    run.load_into(model, dtype="bfloat16")
    assert torch.equal(model.a.weight, source.a.weight.to(torch.bfloat16)) and counts["landed"] == 1


def test_columns_of_one_parameter_in_a_larger_memory(run, monkeypatch):
    """Parameters that are parts of a flat buffer, as some wrappers have them, are landed on where they are."""
    source, model = net(1, a=(300, 40), b=(300, 40)), net(2, a=(300, 40), b=(300, 40))
    flat = torch.zeros(2 * 300 * 40 + 1)
    model.a.weight.data, model.b.weight.data = flat[1 : 1 + 12000].view(40, 300), flat[12001:].view(40, 300)
    run.save(source.state_dict())
    counts = landed(monkeypatch)
    run.load_into(model)
    assert counts["landed"] == 2 and flat[0] == 0
    assert torch.equal(flat[1:12001], source.a.weight.flatten()) and torch.equal(flat[12001:], source.b.weight.flatten())


@pytest.mark.parametrize("tied_model", [True, False])
@pytest.mark.parametrize("tied_source", [True, False])
def test_tied_weights(run, tied_model, tied_source):
    models = []
    for seed, tied in ((1, tied_source), (2, tied_model)):
        model = net(seed, a=(300, 300), b=(300, 300), c=(300, 300))
        if tied:
            model.b.weight = model.a.weight
        models.append(model)
    source, ours = models
    theirs = copy.deepcopy(ours)
    run.save(source.state_dict())
    run.load_into(ours)
    theirs.load_state_dict(source.state_dict())
    assert_same(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("seed", range(40))
def test_any_ties_on_both_sides(run, seed):
    """Model and checkpoint share storages in ways of their own: what PyTorch's order of copying makes of it is what comes out."""
    names = list("abcde")

    def tied(seed):
        random = torch.Generator().manual_seed(seed)
        model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.rand(20, 20, generator=random)) for name in names})
        for name in names:
            other = names[int(torch.randint(5, (), generator=random))]
            kind = int(torch.randint(4, (), generator=random))
            if kind == 0:
                model[name] = model[other]
            elif kind == 1:
                model[name] = torch.nn.Parameter(model[other].detach().t())
            elif kind == 2:
                model[name] = torch.nn.Parameter(model[other].detach().flatten()[:400].view(20, 20))
        return model

    source, ours, theirs = tied(seed), tied(seed + 1000), tied(seed + 1000)  # a deepcopy would not share memory
    run.save(source.state_dict())
    run.load_into(ours)
    theirs.load_state_dict({key: value.clone() for key, value in source.state_dict().items()})
    assert_same(ours.state_dict(), theirs.state_dict())


class Transposed(torch.nn.Module):
    """Loads in its own way."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(30, 30))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        with torch.no_grad():
            self.weight.copy_(state_dict[prefix + "weight"].t())


def test_modules_that_load_in_their_own_way_see_what_was_saved(run):
    weights = torch.rand(30, 30)
    run.save({"0.weight": weights, "1.weight": weights * 2})
    model = torch.nn.Sequential(Transposed(), torch.nn.Linear(30, 30, bias=False))
    model[1]._register_load_state_dict_pre_hook(lambda state, prefix, *_: state[prefix + "weight"].add_(1))
    run.load_into(model)
    assert torch.equal(model[0].weight, weights.t()) and torch.equal(model[1].weight, weights * 2 + 1)


def test_renames_prefixes_and_what_is_asked_of_the_match(run):
    source = net(1, gamma=(30, 30), head=(30, 5))
    run.save({"model": torch.nn.DataParallel(source).state_dict()})
    model = net(2, beta=(30, 30), head=(30, 7))
    rules = {"branch": "/model", "strip_prefix": "module.", "rename": [("gamma", "beta")]}
    plan = run.plan(model, **rules)
    assert list(plan.matched.items()) == [("beta.weight", "module.gamma.weight"), ("beta.bias", "module.gamma.bias")]
    assert list(plan.mismatched) == ["head.weight", "head.bias"] and plan.match_rate == 0.5 and plan.checkpoint.version == 1
    assert "2 of 4 keys match (50.0%), 2 mismatched" in str(plan)
    assert 'with the prefix "module." taken off' in run.plan(source.state_dict(), branch="/model").hint
    with pytest.raises(sconce.LoadStateDictError) as error:
        run.load_into(model, strict=False, **rules)
    assert isinstance(error.value, RuntimeError) and error.value.reason == "MODEL_WEIGHTS_MISMATCH" and error.value.plan.mismatched
    with pytest.raises(sconce.PreconditionError) as error:
        run.load_into(model, strict=False, min_match=0.9, **rules)
    assert error.value.reason == "MATCH_RATE_TOO_LOW"
    wrapped = torch.nn.ModuleDict({"net": net(3, beta=(30, 30))})
    rules["rename"] = {"net.gamma": "net.beta"}  # renames come last
    answer = run.load_into(wrapped, strict=False, add_prefix="net.", **rules)
    assert answer.missing_keys == [] and answer.unexpected_keys == ["net.head.weight", "net.head.bias"]
    assert torch.equal(wrapped["net"].beta.weight, source.gamma.weight)


def test_an_error_says_what_pytorch_says_and_survives_pickling(run):
    run.save({"weight": torch.rand(3, 3), "odd": torch.rand(2)})
    model = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError) as expected:
        model.load_state_dict({"weight": torch.rand(3, 3), "odd": torch.rand(2)})
    with pytest.raises(RuntimeError) as error:
        run.load_into(model)
    assert str(error.value) == str(expected.value) == str(pickle.loads(pickle.dumps(error.value)))


def test_what_cannot_be_loaded_into(run):
    run.save({"weight": torch.rand(3, 3)})
    with pytest.raises(TypeError, match="Module"):
        run.load_into({"weight": torch.rand(3, 3)})
    with pytest.raises(ValueError, match="lazy"):
        run.load_into(torch.nn.LazyLinear(3))
    with pytest.raises(sconce.NotFoundError):
        run.load_into(torch.nn.Linear(3, 3), branch="/nothing")


def test_a_stream_that_breaks_goes_on(server, run_name):
    """And one whose version is not the latest any more loads the one that was planned."""
    between = Between(server.target)
    try:
        with sconce.connect(between.target) as client:
            run = client.run(run_name)
            source, model = net(1, a=(1000, 1000), b=(1000, 1000)), net(2, a=(1000, 1000), b=(1000, 1000))
            run.save(source.state_dict())
            cuts = []

            def cut(method, index, message):
                if method.endswith("PlanLoad"):
                    with sconce.connect(server.target) as other:
                        other.run(run_name).save({"a.weight": torch.rand(1000, 1000)})
                elif method.endswith("FetchCheckpoint") and index == 2 and len(cuts) < 3:
                    cuts.append(index)
                    raise Cut()
                return message

            between.on_answer = cut
            run.load_into(model)
            assert len(cuts) == 3
            assert_same(model.state_dict(), source.state_dict())
    finally:
        between.close()


def test_more_keys_than_a_message_holds(run, monkeypatch):
    monkeypatch.setattr(_plan, "_MAX_BYTES", 2000)
    monkeypatch.setattr(_plan, "_MAX_KEYS", 10)
    shapes = {f"layer{number}": (40, 40) for number in range(60)}
    source, model = net(1, **shapes), net(2, **shapes)
    model.layer50.weight = model.layer1.weight
    run.save(source.state_dict())
    told = []
    assert not any(run.load_into(model, progress=lambda *at: told.append(at)))
    theirs = net(3, **shapes)
    theirs.layer50.weight = theirs.layer1.weight
    theirs.load_state_dict(source.state_dict())
    assert_same(model.state_dict(), theirs.state_dict())
    assert told[-1] == (60 * 6400, 60 * 6400) and told == sorted(told)


def test_batch_norm_keeps_its_count_where_the_version_has_none(run):
    """As load_state_dict with the version's _metadata."""
    source = torch.nn.BatchNorm1d(4).state_dict()
    source._metadata[""] = {"version": 2}
    saved = collections.OrderedDict((key, value) for key, value in source.items() if key != "num_batches_tracked")
    saved._metadata = source._metadata
    run.save(saved)
    model = torch.nn.BatchNorm1d(4)
    model.num_batches_tracked.fill_(5)
    assert run.load_into(model, strict=False) == (["num_batches_tracked"], [])
    assert int(model.num_batches_tracked) == 5
