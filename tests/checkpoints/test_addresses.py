"""Weights by address: fetched once, read safely, and missed in one sentence."""

import os
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

import normfix_mm.engine  # noqa: F401  registers the loaders
from normfix_mm.checkpoints.addresses import fetched
from normfix_mm.errors import BadInput

WEIGHTS = {"backbone.conv1.weight": torch.ones(2), "head.weight": torch.zeros(2)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a network where nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MMENGINE_HOME", str(tmp_path / "mmengine"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def server(tmp_path):
    """Address of a folder, and the requests that came."""
    (tmp_path / "served").mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    handler = partial(Handler, directory=tmp_path / "served")
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "served", asked
        server.shutdown()


def test_a_web_address_is_downloaded_once(cache, server):
    address, folder, asked = server
    torch.save(WEIGHTS, folder / "a.pth")
    for _ in range(2):
        content = CheckpointLoader.load_checkpoint(f"{address}/a.pth?download=1")
        assert content.keys() == WEIGHTS.keys()
    assert len(asked) == 1 and len(list(cache.glob("a-????????.pth"))) == 1
    assert not list(cache.glob("*.partial"))


def test_addresses_that_end_in_one_name_are_files_of_their_own(cache, server):
    address, folder, asked = server
    for owner in ("a", "b"):
        (folder / owner).mkdir()
        torch.save(dict(owner=torch.tensor(ord(owner))), folder / owner / "pytorch_model.bin")
    ends = ("a/pytorch_model.bin", "b/pytorch_model.bin", "a/pytorch_model.bin?revision=2")
    named = [f"{address}/{end}" for end in ends]
    found = [fetched(each) for each in named * 2]
    assert len(set(found)) == len(asked) == 3 and {path.suffix for path in found} == {".bin"}
    owners = [chr(CheckpointLoader.load_checkpoint(each)["owner"]) for each in named]
    assert owners == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("resnet18-f37072fd.pth", True),
        ("resnext101_64x4d-173b62eb.pth", True),
        ("shufflenetv2_x0.5-f707e7126e.pth", True),
        ("faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth", True),
        ("weights-20210831.pth", False),
        ("model-best.pth", False),
        ("pytorch_model.bin", False),
    ],
)
def test_a_name_with_a_hash_is_kept_so_that_files_that_are_there_are_found(cache, name, kept):
    cache.mkdir(parents=True)
    torch.save(WEIGHTS, cache / name)
    if kept:
        assert fetched(f"https://nobody.invalid/{name}") == cache / name
        return
    with pytest.raises(BadInput, match=r"put https://\S+ there as '") as missing:
        fetched(f"https://nobody.invalid/{name}")
    local = str(missing.value).partition(" there as '")[2].partition("'")[0]
    torch.save(WEIGHTS, cache / local)
    assert fetched(f"https://nobody.invalid/{name}") == cache / local


def test_names_of_mmengine_s_lists_are_kept(cache):
    cache.mkdir(parents=True)
    torch.save(WEIGHTS, cache / "mobilenet_v2.pth")
    (name,) = (k for k, v in get_external_models().items() if v and v.endswith("/mobilenet_v2.pth"))
    assert fetched(f"open-mmlab://{name}") == cache / "mobilenet_v2.pth"


def test_what_was_downloaded_is_no_more_trusted_than_a_file(cache, server, tmp_path):
    address, folder, _ = server

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'mark'}",)

    torch.save(dict(WEIGHTS, meta=Payload()), folder / "evil.pth")
    with pytest.raises(BadInput, match=r"evil-\w+.pth' asks for the Python object `\w+.system`"):
        CheckpointLoader.load_checkpoint(f"{address}/evil.pth")
    assert not (tmp_path / "mark").exists()


def test_the_answer_of_a_server_that_has_no_such_file(cache, server):
    with pytest.raises(BadInput, match="HTTP Error 404"):
        fetched(f"{server[0]}/absent.pth")
    with pytest.raises(BadInput, match="names no file"):
        fetched(f"{server[0]}/")
    assert not (cache / "absent.pth").exists()


def test_the_cache_needs_no_network(cache):
    cache.mkdir(parents=True)
    name = os.path.basename(get_torchvision_models()["resnet18"])
    torch.save(WEIGHTS, cache / name)
    assert fetched("torchvision://resnet18") == cache / name
    assert CheckpointLoader.load_checkpoint("torchvision://resnet18").keys() == WEIGHTS.keys()


def test_mmcls_weights_lose_the_name_of_their_part(cache):
    cache.mkdir(parents=True)
    address = "mmcls://resnet50"
    with pytest.raises(BadInput) as missing:
        fetched(address)
    url = str(missing.value).partition("put ")[2].partition(" there")[0]
    torch.save(WEIGHTS, cache / url.rpartition("/")[2])
    state = CheckpointLoader.load_checkpoint(address)["state_dict"]
    assert state.keys() == {"conv1.weight"}


@pytest.mark.parametrize(
    "address",
    ["torchvision://resnet50", "open-mmlab://resnext101_32x4d", "https://nobody.invalid/a.pth"],
)
def test_without_a_network_a_sentence_says_what_to_put_where(cache, address):
    with pytest.raises(BadInput) as caught:
        fetched(address, "`init_cfg`")
    text = str(caught.value)
    assert text.startswith(f"The weights {address!r} of `init_cfg` are not in the cache")
    assert str(cache) in text and "cannot be downloaded (" in text and "init_cfg=None" in text
    assert "put https://" in text and "\n" not in text


@pytest.mark.parametrize("address", ["torchvision://resnet5", "mmcls://nothing", "openmmlab://x"])
def test_a_name_that_nothing_has(cache, address):
    with pytest.raises(BadInput, match="There are no weights"):
        fetched(address)


@pytest.mark.parametrize("address", ["a.pth", "s3://b/a.pth", "petrel://b/a.pth", "http://h/a.pth",
                                     "https://h/a.pth", "modelzoo://x", "pavi://x"])  # fmt: skip
def test_every_scheme_of_mmengine_ends_in_the_safe_reader(address):
    loader = CheckpointLoader._get_checkpoint_loader(address)
    assert loader.__module__ == "normfix_mm.checkpoints.mmengine_loading"
    schemes = CheckpointLoader._schemes.values()
    assert {each.__module__ for each in schemes} == {loader.__module__}
