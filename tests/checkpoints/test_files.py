"""Reading checkpoints runs no code of theirs; writing is all or nothing."""

import argparse
import os
import pickle
import resource

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import ExponentialMovingAverage
from safetensors.torch import save_file

from normfix_mm.checkpoints import files
from normfix_mm.errors import BadInput

WEIGHTS = {"conv1.weight": torch.arange(54.0).view(2, 3, 3, 3), "bn1.weight": torch.ones(2)}


def sentence(path) -> str:
    with pytest.raises(BadInput) as caught:
        files.read(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def assert_weights(found: dict) -> None:
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


class Payload:
    """Unpickling it would call `call` with `arguments`."""

    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("layout", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("call", ["system", "eval", "exec", "getattr"])
def test_a_hostile_pickle_is_not_run(tmp_path, layout, call):
    mark, path = tmp_path / "mark", tmp_path / "weights.pth"
    payload = {
        "system": Payload(os.system, f"touch {mark}"),
        "eval": Payload(eval, f"open({str(mark)!r}, 'w').close()"),
        "exec": Payload(exec, f"open({str(mark)!r}, 'w').close()"),
        # What mmengine's logs need of getattr must open no door to anything else.
        "getattr": Payload(Payload(getattr, os, "system"), f"touch {mark}"),
    }[call]
    content = dict(
        state_dict=WEIGHTS, meta=payload if call != "getattr" else Payload(getattr, str, "join")
    )
    if layout == "pickle":
        path.write_bytes(pickle.dumps(content | dict(state_dict={}), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
    text = sentence(path)
    assert not mark.exists()
    if call != "getattr":
        assert "could run code" in text and "torch.save(" in text and call in text
        # The payload is a real one: a loader that runs code does create the file.
        with open(path, "rb") as file:
            if layout == "pickle":
                pickle.load(file)
            else:
                torch.load(file, weights_only=False)
        assert mark.exists()


def test_what_old_checkpoints_carry_is_read(tmp_path):
    log = HistoryBuffer()
    log.update(1.5)
    path = tmp_path / "old.pth.tar"
    content = dict(
        state_dict={f"module.{name}": value for name, value in WEIGHTS.items()},
        best_acc=np.float64(76.5),
        args=argparse.Namespace(lr=0.1),
        message_hub=dict(log=log),
        optimizer=torch.optim.SGD([torch.ones(1)], lr=0.1).state_dict(),
        meta=dict(epoch=3),
    )
    torch.save(content, path)
    state, meta = files.read(path)
    assert_weights(state)
    assert meta == dict(epoch=3)


@pytest.mark.parametrize("holder", ["state_dict", "model", "model_state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_where_the_weights_are(tmp_path, holder, prefix):
    weights = {f"{prefix}{name}": value for name, value in WEIGHTS.items()}
    torch.save({holder: weights, "epoch": 1} if holder else weights, tmp_path / "a.pt")
    assert_weights(files.read(tmp_path / "a.pt")[0])


def test_a_name_that_only_some_keys_begin_with_stays(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pth")
    assert files.read(tmp_path / "a.pth")[0].keys() == {"module.a", "b"}


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_what_is_written_is_read_back(tmp_path, name):
    meta = dict(normfix_form={"conv1.weight": "WS"}, normfix_source="resnet")
    shared = WEIGHTS | dict(again=WEIGHTS["bn1.weight"], turned=torch.arange(6.0).view(2, 3).T)
    files.write(tmp_path / name, shared, meta)
    state, found = files.read(tmp_path / name)
    assert found == meta
    assert state.keys() == shared.keys()
    assert all(torch.equal(state[key], shared[key]) for key in shared)


def test_safetensors_of_others(tmp_path):
    save_file(WEIGHTS, tmp_path / "timm.safetensors", {"format": "pt"})
    state, meta = files.read(tmp_path / "timm.safetensors")
    assert_weights(state)
    assert meta == {"format": "pt"}


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path, name):
    path = tmp_path / name
    files.write(path, WEIGHTS, {})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(BadInput, match="cannot be written"):
            files.write(path, dict(large=torch.zeros(1 << 19)), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_an_absent_folder_is_made_if_it_can_be(tmp_path):
    files.write(tmp_path / "absent/deep/out.pth", WEIGHTS, {})
    assert files.read(tmp_path / "absent/deep/out.pth")[0].keys() == WEIGHTS.keys()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file/out.pth' cannot be written"):
        files.write(tmp_path / "file/out.pth", WEIGHTS, {})


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_file_that_was_cut_off(tmp_path, name, kept):
    files.write(tmp_path / name, WEIGHTS, {})
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: min(kept, len(whole) - 8)])
    assert "cannot be read" in sentence(tmp_path / name) and "fetch it again" in sentence(
        tmp_path / name
    )


def test_what_is_no_checkpoint(tmp_path):
    assert "does not exist" in sentence(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list" in sentence(tmp_path / "list.pth")
    torch.save(dict(epoch=1), tmp_path / "empty.pth")
    assert "holds no weights" in sentence(tmp_path / "empty.pth")


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda w: (w * 100).to(torch.int8), "torch.int8"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "torch.qint8"),
        (lambda w: w.to(torch.complex64), "torch.complex64"),
        (lambda w: w.to_sparse(), "torch.sparse_coo"),
        (lambda w: w.to("meta"), "no values"),
    ],
)
def test_weights_that_are_no_ordinary_numbers_are_refused_by_name(tmp_path, spoil, told):
    path = tmp_path / "weights.pth"
    counter = {"bn1.num_batches_tracked": torch.tensor(3), "mask": torch.ones(2, dtype=torch.bool)}
    torch.save(counter | WEIGHTS | {"conv1.weight": spoil(WEIGHTS["conv1.weight"])}, path)
    text = sentence(path)
    assert told in text and "'conv1.weight'" in text
    torch.save(counter | WEIGHTS, path)
    assert files.read(path)[0].keys() == counter.keys() | WEIGHTS.keys()


def test_weights_of_torch_s_averaged_model_are_read(tmp_path):
    path = tmp_path / "average.pth"
    model = torch.nn.ModuleDict(dict(conv1=torch.nn.Conv2d(3, 2, 3, bias=False)))
    average = torch.optim.swa_utils.AveragedModel(model)
    torch.save(average.state_dict(), path)
    assert files.read(path)[0].keys() == {"conv1.weight"}


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema"])
def test_a_file_with_other_weights_besides_says_which_are_taken(tmp_path, average):
    path = tmp_path / "weights.pth"
    torch.save({"model": WEIGHTS, average: {n: w / 2 for n, w in WEIGHTS.items()}}, path)
    with pytest.warns(UserWarning, match=f"'model', '{average}'; those under 'model' are taken"):
        assert_weights(files.read(path)[0])


@pytest.mark.parametrize("holder", ["ema", "ema_state_dict"])
@pytest.mark.parametrize("nested", [False, True])
def test_averages_of_others_are_named_too(tmp_path, holder, nested):
    path = tmp_path / "weights.pth"
    average = {n: w / 2 for n, w in WEIGHTS.items()}
    held = dict(module=average, updates=3) if nested else average
    torch.save({"model": WEIGHTS, holder: held}, path)
    with pytest.warns(UserWarning, match=f"'model', '{holder}'; those under 'model' are taken"):
        assert_weights(files.read(path)[0])
    torch.save({"epoch": 3, holder: held}, path)
    assert torch.equal(files.read(path)[0]["bn1.weight"], average["bn1.weight"])


class TestAveragesOfMMEngine:
    @pytest.fixture
    def average(self):
        net = torch.nn.Module()
        net.conv1, net.bn1 = torch.nn.Conv2d(3, 2, 3, bias=False), torch.nn.BatchNorm2d(2)
        averaged = ExponentialMovingAverage(net, momentum=0.5)
        averaged.update_parameters(net)
        return averaged.state_dict()

    def test_by_themselves_are_read_without_their_counter(self, average, tmp_path):
        assert "steps" in average
        torch.save(average, tmp_path / "average.pth")
        names = files.read(tmp_path / "average.pth")[0].keys()
        assert {f"module.{name}" for name in names} == average.keys() - {"steps"}

    @pytest.mark.filterwarnings("error")
    def test_of_a_run_stand_under_state_dict(self, average, tmp_path):
        """Its hook saves what the averages took the place of as `ema_state_dict`."""
        torch.save(dict(state_dict=WEIGHTS, ema_state_dict=average), tmp_path / "epoch_1.pth")
        assert_weights(files.read(tmp_path / "epoch_1.pth")[0])


@pytest.mark.parametrize("holder", [None, "model"])
def test_tensors_without_names_are_refused(tmp_path, holder):
    tensors = {0: torch.ones(2), 1: torch.ones(3)}
    torch.save({holder: tensors} if holder else tensors, tmp_path / "list.pth")
    assert "holds tensors by int, first 0, where the names" in sentence(tmp_path / "list.pth")


def test_numpy_s_values_in_metadata_reach_safetensors(tmp_path):
    meta = dict(
        dataset_meta=dict(
            classes=("a", "b"), palette=np.array([[1, 2, 3]]), share=np.float32(0.5), ids={3}
        ),
        by={np.int64(2): tmp_path},
        nothing=None,
    )
    files.write(tmp_path / "out.safetensors", WEIGHTS, meta)
    found = files.read(tmp_path / "out.safetensors")[1]
    assert found == dict(
        dataset_meta=dict(classes=["a", "b"], palette=[[1, 2, 3]], share=0.5, ids=[3]),
        by={"2": str(tmp_path)},
        nothing=None,
    )
