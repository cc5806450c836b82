"""sconce.torch in the place of torch.save and torch.load."""

import io
import pathlib

import pytest
import sconce

torch = pytest.importorskip("torch")

import sconce.torch  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture
def url(server, run_name):
    return f"sconce://{server.target}/vision/{run_name}"


def test_references_go_to_the_server(url, server, run_name):
    first, second = {"w": torch.rand(500)}, {"w": torch.rand(500)}
    assert sconce.torch.save(first, url, metrics={"loss": 0.1}, pickle_protocol=4).version == 1
    assert sconce.torch.save(second, pathlib.Path(url), metrics={"loss": 0.2}).version == 2
    assert torch.equal(sconce.torch.load(url)["w"], second["w"])
    assert torch.equal(sconce.torch.load(f"{url}@best", "cpu", weights_only=True, mmap=True)["w"], first["w"])
    assert torch.equal(sconce.torch.load(pathlib.Path(f"{url}@1"), map_location=lambda storage, _: storage, weights_only=False)["w"], first["w"])
    assert sconce.torch.load(url, branch="/w", dtype="float16").dtype == torch.float16
    with sconce.connect(server.target) as client:
        assert [version.version for version in client.run(f"vision/{run_name}").list()] == [2, 1]


def test_the_same_client_for_all_calls(url, monkeypatch):
    sconce.torch.save({}, url)
    before = sconce.torch._client.cache_info().currsize
    sconce.torch.load(url)
    assert sconce.torch._client.cache_info().currsize == before
    monkeypatch.setenv("SCONCE_TOKEN", "another")
    sconce.torch.load(url)
    assert sconce.torch._client.cache_info().currsize == before + 1


def test_all_else_goes_to_pytorch(tmp_path):
    value = {"w": torch.rand(3)}
    for place in (tmp_path / "a.pt", str(tmp_path / "b.pt"), io.BytesIO()):
        assert sconce.torch.save(value, place, pickle_protocol=2) is None
        if isinstance(place, io.BytesIO):
            place.seek(0)
        assert torch.equal(sconce.torch.load(place, "cpu", weights_only=False)["w"], value["w"])
    with pytest.raises(FileNotFoundError):
        sconce.torch.load(tmp_path / "missing.pt")
    with pytest.raises(TypeError):
        sconce.torch.save(value, io.BytesIO(), metrics={})


def test_a_version_cannot_be_saved_to(url):
    with pytest.raises(ValueError, match="@best"):
        sconce.torch.save({}, f"{url}@best")
