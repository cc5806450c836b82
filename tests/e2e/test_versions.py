"""Versions are numbered by the server, immutable, and found again by number, `latest`, `best` and alias."""

import concurrent.futures
import io
import math
import uuid

import grpc
import judge
import pytest
import stubs
import torch

checkpoints = stubs.checkpoints


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def weights(seed, elements=50_000):
    return torch.rand(elements, generator=torch.Generator().manual_seed(seed))


def get(rpc, run, selector):
    return rpc.checkpoints.GetCheckpoint(checkpoints.GetCheckpointRequest(name=f"projects/default/runs/{run}/checkpoints/{selector}"), timeout=10)


def test_pushes_at_once_get_a_version_each(server, run, tmp_path):
    files = {}
    for number in range(8):
        files[number] = tmp_path / f"{number}.pt"
        torch.save({"number": number, "w": weights(number, 500_000)}, files[number])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda number: server.sconce("push", files[number], run, "-o", "name").stdout.strip(), files))
    assert len(set(outputs)) == 8
    rpc = server.stubs()
    versions = rpc.checkpoints.ListCheckpoints(checkpoints.ListCheckpointsRequest(parent=f"projects/default/runs/{run}"), timeout=10).checkpoints
    assert [v.version for v in versions] == list(range(8, 0, -1)), "newest first, without gaps"
    numbers = set()
    for version in versions:
        tree = judge.load(rpc.export_file(version.name))
        assert torch.equal(tree["w"], weights(tree["number"], 500_000))
        numbers.add(tree["number"])
    assert numbers == set(range(8))


def test_one_request_id_at_once_makes_one_version(server, run):
    data, request_id = saved({"w": weights(1, 300_000)}), str(uuid.uuid4())

    def push(_):
        one = server.stubs()
        try:
            return one.import_file(run, data, request_id=request_id).version
        finally:
            one.close()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(push, range(6)))) == 1
    rpc = server.stubs()
    listed = rpc.checkpoints.ListCheckpoints(checkpoints.ListCheckpointsRequest(parent=f"projects/default/runs/{run}"), timeout=10)
    assert len(listed.checkpoints) == 1


def test_epoch_step_loss_and_metrics_come_from_the_tree(rpc, run):
    made = rpc.import_file(run, saved({"epoch": 7, "global_step": 900, "loss": torch.tensor(0.125), "metrics": {"acc": 0.75}}))
    assert (made.epoch, made.step) == (7, 900)
    assert dict(made.metrics) == {"loss": 0.125, "acc": 0.75}


def test_best_and_latest(rpc, run):
    for loss in (0.5, 0.25, math.nan, 0.25, 0.75):
        rpc.import_file(run, saved({"loss": loss}))
    assert get(rpc, run, "best").version == 4, "a tie goes to the newer, NaN never wins"
    assert get(rpc, run, "latest").version == 5
    assert math.isnan(get(rpc, run, "3").metrics["loss"])

    late = checkpoints.UpdateCheckpointRequest(checkpoint={"name": f"projects/default/runs/{run}/checkpoints/1", "metrics": {"val": 9.0}})
    rpc.checkpoints.UpdateCheckpoint(late, timeout=10)
    rule = checkpoints.UpdateRunRequest(run={"name": f"projects/default/runs/{run}", "best_rule": {"metric": "val", "goal": "MAXIMIZE"}})
    rpc.checkpoints.UpdateRun(rule, timeout=10)
    assert get(rpc, run, "best").version == 1, "another metric, added later"


def listed(rpc, run, page_size=0, **asked):
    """The versions of all pages."""
    versions, token = [], ""
    while True:
        request = checkpoints.ListCheckpointsRequest(parent=f"projects/default/runs/{run}", page_size=page_size, page_token=token, **asked)
        page = rpc.checkpoints.ListCheckpoints(request, timeout=10)
        versions += [version.version for version in page.checkpoints]
        token = page.next_page_token
        if not token:
            return versions


def test_lists_take_filters_and_orders(server, rpc, run):
    losses = (0.5, 0.25, math.nan, 0.25, 0.75, 0.125)
    for number, loss in enumerate(losses, 1):
        rpc.import_file(run, saved({"loss": loss, "step": number * 100}))
    for number, stage in ((2, "final"), (5, "final"), (6, "warm up")):
        given = {"name": f"projects/default/runs/{run}/checkpoints/{number}", "labels": {"stage": stage}, "pinned": number == 5}
        rpc.checkpoints.UpdateCheckpoint(checkpoints.UpdateCheckpointRequest(checkpoint=given), timeout=10)
    rpc.checkpoints.SetAlias(checkpoints.SetAliasRequest(name=f"projects/default/runs/{run}/aliases/prod", selector="1"), timeout=10)

    for page_size in (0, 1):
        ask = lambda **asked: listed(rpc, run, page_size, **asked)  # noqa: E731
        assert ask() == [6, 5, 4, 3, 2, 1]
        assert ask(order_by="version") == [1, 2, 3, 4, 5, 6]
        assert ask(order_by="metrics.loss") == [6, 4, 2, 1, 5], "ties: the newer first; NaN is not in the order"
        assert ask(order_by="metrics.loss desc") == [5, 1, 4, 2, 6]
        assert ask(filter="metrics.loss < 0.3") == [6, 4, 2]
        assert ask(filter='labels.stage = "final" AND metrics.loss < 0.3') == [2]
        assert ask(filter='labels.stage = "warm up" OR aliases:prod OR pinned = true', order_by="step desc") == [6, 5, 1]
        assert ask(filter="NOT labels:stage AND step >= 200") == [4, 3]
        assert ask(filter='create_time < "2020-01-01T00:00:00Z"') == []

    with pytest.raises(grpc.RpcError) as error:
        listed(rpc, run, filter="step = 1 AND losss < 1")
    assert stubs.reason_of(error.value)[:2] == ("INVALID_ARGUMENT", "FILTER_INVALID")
    assert "byte 14" in error.value.details() and "metrics.NAME" in error.value.details()

    shown = server.sconce("ls", run, "--filter", "metrics.loss < 0.6", "--order-by", "metrics.loss desc", "-n", "2", "-o", "name").stdout.split()
    assert [name.rsplit("/", 1)[1] for name in shown] == ["1", "4"]


def test_best_falls_back_when_it_is_deleted(rpc, run):
    for loss in (0.5, 0.25):
        rpc.import_file(run, saved({"loss": loss, "w": weights(3)}))
    rpc.checkpoints.DeleteCheckpoint(checkpoints.DeleteCheckpointRequest(name=f"projects/default/runs/{run}/checkpoints/best"), timeout=10)
    assert get(rpc, run, "best").version == 1
    assert get(rpc, run, "latest").version == 1
    assert rpc.import_file(run, saved({"loss": 0.125})).version == 3, "a number is never used again"
    assert torch.equal(judge.load(rpc.export_file(get(rpc, run, "1").name))["w"], weights(3)), "the other's bytes are still there"


def test_aliases_move_by_compare_and_swap(rpc, run):
    for _ in range(3):
        rpc.import_file(run, saved({"w": weights(1)}))
    name = f"projects/default/runs/{run}/aliases/prod"
    first = rpc.checkpoints.SetAlias(checkpoints.SetAliasRequest(name=name, selector="1"), timeout=10)

    def move(selector):
        one = checkpoints.SetAliasRequest(name=name, selector=selector, etag=first.etag)
        try:
            return rpc.checkpoints.SetAlias(one, timeout=10).version
        except grpc.RpcError as error:
            return stubs.reason_of(error)[1]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcome = sorted(map(str, pool.map(move, ["2", "latest"])))
    assert outcome in (["2", "ETAG_MISMATCH"], ["3", "ETAG_MISMATCH"])
    assert get(rpc, run, "prod").version == int(outcome[0])
    assert "prod" in get(rpc, run, outcome[0]).aliases


def test_unchanged_tensors_are_stored_once(server, rpc, run):
    frozen = weights(11, 2_000_000)
    first = rpc.import_file(run, saved({"frozen": frozen, "epoch": 1}))
    second = rpc.import_file(run, saved({"frozen": frozen, "epoch": 2}))
    assert first.stored_bytes >= 8_000_000
    assert second.deduplicated_bytes == 8_000_000
    assert second.stored_bytes < 100_000


def test_versions_survive_a_restart(new_server):
    one = new_server().start()
    rpc = one.stubs()
    made = rpc.import_file("run", saved({"loss": 0.5, "w": weights(1)}))
    before = rpc.export_file(made.name)
    rpc.close()
    assert one.stop() == 0
    rpc = one.start().stubs()
    assert rpc.export_file("projects/default/runs/run/checkpoints/best") == before
    assert get(rpc, "run", "latest") == made
    assert rpc.import_file("run", saved({"loss": 0.25})).version == 2
    rpc.close()


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_pieces_of_any_size(rpc, run, piece):
    data = saved({"w": weights(1, 400)})
    assert torch.equal(judge.load(rpc.export_file(rpc.import_file(run, data, piece=piece).name))["w"], weights(1, 400))
