"""Folded models as ONNX: onnxruntime computes what the stock model predicts, at any size."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import small_detectors
from helpers.small_folders import CAMVID, config_of
from helpers.tool import call
from mmdet.apis import inference_detector, init_detector
from mmdet.models.dense_heads import RetinaHead
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from normfix_mm.datasets.seg_folder import SegFolder
from normfix_mm.errors import BadInput
from normfix_mm.export.same_network import compare_instances, difference
from normfix_mm.export.to_onnx import detectors, write
from normfix_mm.models.build import build_model

pytestmark = pytest.mark.slow
onnx = pytest.importorskip("onnx", reason="pip install onnx onnxruntime")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")

DETECTORS = ("retinanet-fixnorm", "mask-fixnorm", "cascade-fixnorm")
NAMES = (*DETECTORS, "ocnet", "classifier")
SIZES = ((150, 110), (75, 139))  # height and width: neither that of the export


class Exported:
    """Configs and checkpoints of small trained models, and what fold.py --onnx makes of them."""

    def __init__(self, data: Path, root: Path) -> None:
        self.data, self.root, self.said = data, root, {}

    def trained(self, name: str) -> tuple[Path, Path]:
        stem = self.root / name
        if name == "classifier":
            pytest.importorskip("mmpretrain")
        if stem.with_suffix(".py").exists():
            pass
        elif name in DETECTORS:
            cfg = small_detectors.config(name, self.data)
            small_detectors.save(cfg, small_detectors.trained_weights(cfg), stem)
        else:
            cfg, classes = self._folder_config(name)
            torch.manual_seed(0)
            model = build_model(cfg)
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    if key.endswith(".g"):
                        parameter.mul_(1 + torch.rand_like(parameter)).add_(0.1)
            cfg.dump(stem.with_suffix(".py"))
            meta = dict(dataset_meta=dict(classes=classes))
            torch.save(dict(state_dict=model.state_dict(), meta=meta), stem.with_suffix(".pth"))
        return stem.with_suffix(".py"), stem.with_suffix(".pth")

    def _folder_config(self, name: str) -> tuple[Config, tuple[str, ...]]:
        if name == "ocnet":
            cfg = Config.fromfile(config_of("ocnet_r18-d8", "fixnorm"))
            SegFolder(self.data / "camvid").use(cfg, CAMVID)
            # Half the width, which is what takes the time.
            cfg.model.backbone.update(base_channels=16, stem_channels=32)
            cfg.model.decode_head.in_channels //= 2
            cfg.model.auxiliary_head.in_channels //= 2
            return cfg, CAMVID
        cfg = Config.fromfile(config_of("resnet_r18", "fixnorm"))
        cfg.model.head.num_classes = 3
        return cfg, ("red cells", "white cells", "platelets")

    def image(self, name: str) -> tuple:
        """A classifier's config knows no folder."""
        seen = small_detectors.first_image("retinanet-fixnorm", self.data)
        return ("--image", seen) if name == "classifier" else ()

    def out(self, name: str) -> Path:
        """OUT/name without ending."""
        folder = self.root / f"{name}-folded"
        if not folder.exists():
            with contextlib.redirect_stdout(io.StringIO()) as said:
                call("fold.py", *self.trained(name), folder, "--onnx", *self.image(name))
            self.said[name] = said.getvalue()
        return folder / name


@pytest.fixture(scope="module")
def exported(real_data, tmp_path_factory) -> Exported:
    return Exported(real_data, tmp_path_factory.mktemp("exported"))


def image_of(name: str, data: Path, size: tuple[int, int]) -> np.ndarray:
    """Not the image on which the export was compared, in another shape."""
    folder = "camvid" if name == "ocnet" else small_detectors.DATA.get(name, "bccd")
    path = max((data / folder / "images/val").iterdir())
    return cv2.resize(cv2.imread(str(path)), size[::-1])


def run(path: Path, image: np.ndarray) -> dict[str, torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, dict(images=np.ascontiguousarray(image.transpose(2, 0, 1)[None])))
    return dict(zip(names, map(torch.from_numpy, found)))


def stock_result(stem: Path, image: np.ndarray):
    """What the framework's own inference gives for an image that its pipeline leaves as it is."""
    cfg = Config.fromfile(f"{stem}.py")
    for step in cfg.get("test_dataloader", {}).get("dataset", {}).get("pipeline", []):
        if step["type"] == "Resize":
            step.update(scale=image.shape[1::-1], keep_ratio=False)
    scope = cfg.default_scope
    if scope == "mmdet":
        model = init_detector(cfg, f"{stem}.pth", device="cpu")
        return inference_detector(model, image).pred_instances
    with DefaultScope.overwrite_default_scope(scope):
        model = build_model(cfg).eval()
        model.load_state_dict(torch.load(f"{stem}.pth", weights_only=True)["state_dict"])
        given = torch.from_numpy(image.transpose(2, 0, 1).copy())
        given = given[None] if scope == "mmpretrain" else [given]
        with torch.no_grad():
            (sample,) = model.predict(model.data_preprocessor(dict(inputs=given))["inputs"])
        return sample


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_gives_what_the_stock_model_gives(name, size, exported, real_data):
    stem = exported.out(name)
    image = image_of(name, real_data, size)
    found, expected = run(stem.with_suffix(".onnx"), image), stock_result(stem, image)
    if name in DETECTORS:
        assert ("masks" in found) == ("masks" in expected) == (name == "mask-fixnorm")
        boxes = InstanceData(bboxes=found.pop("boxes"), **found)
        text, same = compare_instances(boxes, expected, "onnxruntime", write.ALLOWED)
        assert same and len(expected) == 30 and expected.scores.std() > 1e-4, text
    elif name == "ocnet":
        logits = expected.seg_logits.data
        assert found["logits"].shape == (1, len(CAMVID), *size) and logits.std() > 1e-3
        assert difference(found["logits"][0], logits) < 1e-4
        assert (found["labels"][0] != expected.pred_sem_seg.data[0]).float().mean() < 0.005
    else:
        torch.testing.assert_close(found["scores"][0], expected.pred_score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_what_it_takes_and_gives(name, exported):
    """And consists of standard operators, of which none computes a norm of the weights."""
    stem = exported.out(name)
    graph = onnx.load(stem.with_suffix(".onnx"))
    assert {node.domain for node in graph.graph.node} == {""}
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"ReduceMean", "ReduceL2", "ReduceSum", "Pow"}
    (given,) = graph.graph.input
    batch, _, height, width = given.type.tensor_type.shape.dim
    assert (batch.dim_param or batch.dim_value) == (1 if name in DETECTORS else "N")
    assert (height.dim_param, width.dim_param) == ("H", "W")
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert "BGR, 0 to 255" in said["images"] and "not normalized" in said["images"]
    assert {output.name for output in graph.graph.output} == said.keys() - {
        "images", "classes", "folded_by",
    }  # fmt: skip
    state = torch.load(stem.with_suffix(".pth"), weights_only=True)
    assert tuple(json.loads(said["classes"])) == tuple(state["meta"]["dataset_meta"]["classes"])
    text = exported.said[name]
    assert f"{stem}.onnx" in text and "in onnxruntime:" in text
    assert sorted(path.name for path in stem.parent.iterdir()) == [
        f"{name}.{end}" for end in ("onnx", "pth", "py")
    ]


@pytest.mark.parametrize("name", ["ocnet", "classifier"])
def test_a_batch_is_its_images_one_by_one(name, exported, real_data):
    path = exported.out(name).with_suffix(".onnx")
    images = np.stack([image_of(kind, real_data, (64, 80)) for kind in (name, "mask-fixnorm")])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    together = session.run(None, dict(images=images.transpose(0, 3, 1, 2).copy()))
    for index, image in enumerate(images):
        for batch, alone in zip(together, run(path, image).values()):
            np.testing.assert_allclose(batch[index], alone[0], rtol=1e-4, atol=1e-5)


def test_where_nothing_is_found_the_thresholds_are_dropped(exported, tmp_path, capsys):
    """To compare; in the written file they stay."""
    given = (*exported.trained("mask-fixnorm"), tmp_path / "out", "--onnx")
    call("fold.py", *given, "--cfg-options", "model.test_cfg.rcnn.score_thr=0.9999")
    assert capsys.readouterr().out.count("with no score threshold, as none are above it") == 2
    image = image_of("mask-fixnorm", exported.data, (90, 75))
    found = run(tmp_path / "out/mask-fixnorm.onnx", image)
    assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 90, 75)


# Refusals: one sentence, and nothing is left behind.


def refusal(capsys, tmp_path, *arguments) -> str:
    with pytest.raises(SystemExit) as ended:
        call("fold.py", *arguments[:2], tmp_path / "out", "--onnx", *arguments[2:])
    message = str(ended.value)
    assert message.startswith("error: ") and "\n" not in message
    assert not list(tmp_path.iterdir())
    return message


def test_without_onnxruntime_the_command_that_installs_it_is_named(
    exported, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = refusal(capsys, tmp_path, *exported.trained("retinanet-fixnorm"))
    assert "pip install onnx onnxruntime" in text


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("mask-fixnorm", "model.test_cfg.rcnn.nms.type=soft_nms", "cannot do .*soft_nms"),
        ("ocnet", "model.test_cfg.mode=slide", "sliding window.*test_cfg.mode=whole"),
    ],
)
def test_what_cannot_leave_whole_is_refused(name, option, message, exported, tmp_path, capsys):
    slide = ["model.test_cfg.crop_size=(90,90)", "model.test_cfg.stride=(60,60)"]
    options = ["--cfg-options", option, *(slide if "slide" in option else [])]
    text = refusal(capsys, tmp_path, *exported.trained(name), *options)
    assert re.search(f"cannot leave whole as ONNX: .*{message}.*Without --onnx", text), text


def test_a_head_that_predicts_in_its_own_way_is_refused(exported):
    class Own(RetinaHead):
        def _predict_by_feat_single(self, *args, **kwargs):
            return super()._predict_by_feat_single(*args, **kwargs)

    with DefaultScope.overwrite_default_scope("mmdet"):
        cfg = Config.fromfile(f"{exported.out('retinanet-fixnorm')}.py")
        model = build_model(cfg)
        detectors.traceable(model)
        model.bbox_head.__class__ = Own
        with pytest.raises(BadInput, match="Own has a _predict_by_feat_single of its own"):
            detectors.traceable(model)


def test_another_result_is_an_error_and_nothing_is_written(exported, tmp_path, capsys, monkeypatch):
    """As if NMS took the classes for one."""
    nms = detectors.group_nms

    def across_classes(boxes, scores, labels, size, cfg):
        return nms(boxes, scores, torch.zeros_like(labels), size, cfg)

    monkeypatch.setattr(detectors, "group_nms", across_classes)
    text = refusal(capsys, tmp_path, *exported.trained("retinanet-fixnorm"))
    assert "onnxruntime does not compute what torch does" in text
