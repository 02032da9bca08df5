"""The logged MCBR of real detectors and segmenters against eq. 9 in loops, feature by feature."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from engine.toy_run import evaluation, toy_config, train
from helpers.small_command import CLASSES, write_config
from helpers.tool import call
from helpers.toy_cityscapes import make_toy_cityscapes, small_options
from helpers.toy_coco import make_toy_coco, toy_options
from mmengine.config import Config
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

import normfix_mm.segmentation  # noqa: F401  registers, also the readers of segmenters
from normfix_mm.engine.classified import chosen, readers_of
from normfix_mm.engine.hooks.cross_boundary_risk import CrossBoundaryRiskHook

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
# In place of the base's, where pictures keep their size: twice as large, boxes of the file.
LARGER = {"val_dataloader.dataset.pipeline.1.scale": (192, 128)}
LOAD, RESIZE, BOXES = (
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(192, 128), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
)
PACK = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
)
_NUMBER = itertools.count()  # MMEngine shares logs of one name
ALL = {"default_hooks.risk.most": 10**6}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp("coco"), CLASSES, boxes=3)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    root = make_toy_cityscapes(tmp_path_factory.mktemp("streets"))
    call("prepare_cityscapes.py", root)
    return root


def retinanet(coco, folder, **changes) -> Config:
    return Config.fromfile(write_config(folder / "config.py", coco, **changes))


def two_stage(coco, name: str) -> Config:
    """One of our configs, made small."""
    cfg = Config.fromfile(next((ROOT / "configs").glob(f"*/{name}_*.py")))
    model = cfg.model
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=8)
    model.rpn_head.update(in_channels=8, feat_channels=8)
    model.roi_head.bbox_roi_extractor.out_channels = 8
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=8, fc_out_channels=16)
    model.test_cfg.rpn.update(nms_pre=20, max_per_img=5)
    cfg.merge_from_dict(toy_options(coco) | LARGER)
    return cfg


def backends(folder: Path) -> dict:
    return dict(
        type="Visualizer",
        name=str(folder),  # mmengine shares equal names in one process
        vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
    )


def validated(cfg: Config, folder: Path) -> Runner:
    cfg.merge_from_dict(dict(work_dir=str(folder), experiment_name=f"risk{next(_NUMBER)}"))
    cfg.visualizer = backends(folder)
    cfg.default_hooks.pop("visualization", None)
    runner = Runner.from_cfg(cfg)
    runner.val()
    runner.model.eval()
    return runner


def logged(folder: Path) -> dict[str, float]:
    """MCBR by layer in the last evaluation, in the local log; in TensorBoard's it is the same."""
    (path,) = folder.glob("*/vis_data/scalars.json")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    found = [{k: v for k, v in e.items() if k.startswith("mcbr/")} for e in entries]
    last = [entry for entry in found if entry][-1]
    events = EventAccumulator(str(path.parent))
    events.Reload()
    for key, value in last.items():
        assert events.Scalars(key)[-1].value == pytest.approx(value, abs=1e-6)
    return last


def eq_9(x, k: int, rows) -> float:
    """MCBR of one feature, by the definition, in float64."""
    x, rows = (np.asarray(part.detach(), dtype=np.float64) for part in (x, rows))
    cosines = []
    for j in range(len(rows)):
        if j != k:
            apart = rows[j] - rows[k]
            size = np.linalg.norm(x) * np.linalg.norm(apart)
            cosines.append(x @ apart / size if size else 0.0)
    return sum(cosines) / len(cosines)


def same(value: float, risks: list[float]) -> None:
    assert len(risks) > 5 and max(map(abs, risks)) > 1e-3
    assert value == pytest.approx(sum(risks) / len(risks), abs=1e-6)


def pictures(runner):
    """Each validation picture by itself, prepared for the network, with its boxes as resized."""
    for item in runner.val_dataloader.dataset:
        batch = dict(inputs=[item["inputs"]], data_samples=[item["data_samples"]])
        data = runner.model.data_preprocessor(batch)
        yield data["inputs"], data["data_samples"][0]


# -- dense heads --------------------------------------------------------------------------------


def overlap(a, b) -> float:
    wide, high = (min(a[2 + i], b[2 + i]) - max(a[i], b[i]) for i in (0, 1))
    both = max(wide, 0) * max(high, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(areas) - both)


@torch.no_grad()
def test_a_retinanet_s_is_that_of_its_positive_anchors(coco, tmp_path):
    runner = validated(retinanet(coco, tmp_path, **LARGER, **ALL), tmp_path / "run")
    risks = []
    head = runner.model.bbox_head
    weight = head.retina_cls.weight.reshape(9, 80, -1)  # FixNorm divides by one number for all
    for inputs, sample in pictures(runner):
        boxes, labels = (2 * sample.gt_instances.bboxes).tolist(), sample.gt_instances.labels
        levels = runner.model.extract_feat(inputs)
        grids = head.prior_generator.grid_priors([m.shape[-2:] for m in levels], device="cpu")
        anchors = torch.cat(grids).tolist()
        table = np.array([[overlap(anchor, box) for anchor in anchors] for box in boxes])
        label_of = {}
        for anchor in np.flatnonzero(table.max(0) >= 0.5):
            label_of[int(anchor)] = labels[table[:, anchor].argmax()]
        for row, label in zip(table, labels):  # each box has its best anchors
            label_of |= {int(a): label for a in np.flatnonzero(row == row.max()) if row.max() > 0}
        starts = np.cumsum([0, *map(len, grids)])
        for level, (start, stop) in zip(levels, itertools.pairwise(starts)):
            for conv in head.cls_convs:
                level = conv(level)
            columns = F.unfold(level, 3, padding=1)[0].T  # a row a place
            for anchor in range(start, stop):
                if anchor in label_of:
                    place, kind_of = divmod(anchor - start, 9)
                    k = int(label_of[anchor])
                    risks.append(eq_9(columns[place], k, weight[kind_of]))
    same(logged(tmp_path / "run")["mcbr/bbox_head.retina_cls"], risks)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["FCOSHead", "GFLHead"])
def test_features_and_labels_of_other_dense_heads_are_those_of_their_loss(coco, tmp_path, kind):
    """The scores of what is read, with their labels, are those that the loss is given."""
    cfg = retinanet(coco, tmp_path)
    common = dict(num_classes=80, in_channels=8, feat_channels=8, stacked_convs=1)
    common["norm_cfg"] = dict(type="BN")  # eight channels are too few for their GN
    anchors = dict(
        type="AnchorGenerator",
        ratios=[1.0],
        octave_base_scale=4,
        scales_per_octave=1,
        strides=[8, 16, 32, 64, 128],
    )
    losses = dict(loss_cls=dict(type="QualityFocalLoss"), loss_bbox=dict(type="GIoULoss"))
    own = {} if kind == "FCOSHead" else dict(anchor_generator=anchors, **losses)
    cfg.model.bbox_head = dict(type=kind, **common, **own)
    assigner = dict(type="ATSSAssigner", topk=9)
    cfg.model.train_cfg = dict(assigner=assigner, allowed_border=-1, pos_weight=-1)
    # Boxes are resized with the picture, so that the loss can take the samples as they are.
    cfg.val_dataloader.dataset.pipeline = [LOAD, BOXES, RESIZE, PACK]
    cfg.work_dir = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    model = runner.model.eval()
    (reader,) = readers_of(model)
    reader.attach(runner.val_dataloader.dataset)
    batch = next(iter(runner.val_dataloader))
    seen = list(reader.read(model.val_step(batch), 10**6))
    reader.detach()
    bias = reader.layer.bias
    scores = torch.cat([part.features @ part.weight.T + bias for part in seen])
    labels = torch.cat([part.labels for part in seen])

    heard = []
    model.bbox_head.loss_cls.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[:2]))
    model._run_forward(model.data_preprocessor(batch), mode="loss")
    of_loss = []
    for score, label in heard:
        label = label[0] if isinstance(label, tuple) else label  # GFL's with a quality
        of_loss += zip(score[label < 80], label[label < 80].tolist())
    assert len(of_loss) == len(labels) > 5
    wanted = sorted((k, *row.tolist()) for row, k in of_loss)
    found = sorted((k, *row.tolist()) for row, k in zip(scores, labels.tolist()))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


# -- box heads ----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", ["faster-rcnn_r50_fpn_fixnorm", "cascade-rcnn_r50_fpn_baseline"])
def test_a_two_stage_detector_s_is_that_of_the_true_boxes(coco, tmp_path, name):
    runner = validated(two_stage(coco, name), tmp_path / "run")
    roi = runner.model.roi_head
    cascade = name.startswith("cascade")
    heads = dict(enumerate(roi.bbox_head)) if cascade else {None: roi.bbox_head}
    risks = {stage: [] for stage in heads}
    for inputs, sample in pictures(runner):
        levels = runner.model.extract_feat(inputs)[:4]
        for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels):
            for stage, head in heads.items():
                extractor = roi.bbox_roi_extractor[stage] if cascade else roi.bbox_roi_extractor
                feature = extractor(levels, torch.tensor([[0, *(2 * box).tolist()]])).flatten(1)
                for fc in head.shared_fcs:
                    feature = fc(feature).relu()
                risks[stage].append(eq_9(feature[0], int(label), head.fc_cls.weight))
    found = logged(tmp_path / "run")
    assert len(found) == len(heads)
    for stage in heads:
        place = "" if stage is None else f".{stage}"
        same(found[f"mcbr/roi_head.bbox_head{place}.fc_cls"], risks[stage])


# -- pixels -------------------------------------------------------------------------------------

WINDOWS = [(top, left) for top in (0, 16) for left in (0, 32, 64, 80)]  # of 48² at strides of 32


@torch.no_grad()
@pytest.mark.parametrize("how", ["in windows", "resized and padded"])
def test_a_segmenter_s_is_that_of_its_pixels(streets, tmp_path, how):
    cfg = Config.fromfile(next((ROOT / "configs/ocnet").glob("ocnet-base*_fixnorm_4xb2-40k*.py")))
    cfg.merge_from_dict(small_options(streets) | ALL)
    if how == "in windows":
        cfg.model.test_cfg = dict(mode="slide", crop_size=(48, 48), stride=(32, 32))
        scale, padded, windows, size = 1, (64, 128), WINDOWS, (48, 48)
    else:
        cfg.val_dataloader.dataset.pipeline.insert(1, dict(type="Resize", scale=(64, 32)))
        cfg.model.data_preprocessor.test_cfg = dict(size=(48, 80))
        cfg.model.decode_head.align_corners = False
        scale, padded, windows, size = 2, (48, 80), [(0, 0)], (48, 80)
    runner, risks = validated(cfg, tmp_path / "run"), []
    head, weight = runner.model.decode_head, runner.model.decode_head.conv_seg.weight.flatten(1)
    for inputs, sample in pictures(runner):
        assert inputs.shape[-2:] == padded
        truth = sample.gt_sem_seg.data[0]
        for top, left in windows:
            crop = inputs[:, :, top : top + size[0], left : left + size[1]]
            levels = head._transform_inputs(runner.model.extract_feat(crop))
            features = head.context(head.bottleneck(levels))[0]
            for i, j in np.ndindex(features.shape[1:]):
                middle = []
                for place, places, length, start in zip(
                    (i, j), features.shape[1:], size, (top, left)
                ):
                    if head.align_corners:
                        at = place * (length - 1) / (places - 1)
                    else:
                        at = (place + 0.5) * length / places - 0.5
                    middle.append(int((start + at + 0.5) * scale))
                y, x = middle
                if y < 64 and x < 128 and truth[y, x] != 255:
                    risks.append(eq_9(features[:, i, j], int(truth[y, x]), weight))
    same(logged(tmp_path / "run")["mcbr/decode_head.conv_seg"], risks)


# -- what the hook is to a run ------------------------------------------------------------------


def test_it_changes_no_bit_of_a_training(toy_data, tmp_path):
    """Weights, buffers and the random numbers of flips, after evaluations in between."""
    changes = evaluation(toy_data) | {"train_cfg.val_interval": 1}
    ends = []
    for name, hooks in (("plain", []), ("watched", [dict(type="CrossBoundaryRiskHook")])):
        config = toy_config(
            toy_data, tmp_path / name, by_epoch=False, length=3, custom_hooks=hooks, **changes
        )
        config.visualizer = backends(tmp_path / name)
        runner = train(config)
        modes = [module.training for module in runner.model.modules()]
        hooked = [m for m in runner.model.modules() if m._forward_pre_hooks or m._forward_hooks]
        ends.append((runner.model.state_dict(), torch.get_rng_state(), modes, len(hooked)))
    (weights, chance, modes, hooked), (others, other_chance, *other) = ends
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert torch.equal(chance, other_chance) and other == [modes, hooked]
    assert list(logged(tmp_path / "watched")) == ["mcbr/bbox_head.retina_cls"]
    assert "mcbr" not in (max((tmp_path / "plain").glob("*/vis_data/scalars.json"))).read_text()


def test_of_many_features_some_are_taken_without_the_run_s_random_numbers():
    wanted = torch.arange(1000) % 3 == 0
    state = torch.get_rng_state()
    some = chosen(wanted, 50)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(some, chosen(wanted, 50))
    assert len(set(some.tolist())) == 50 and bool(wanted[some].all())
    assert some.min() < 200 and some.max() > 800
    assert torch.equal(chosen(wanted, 10**6), wanted.nonzero()[:, 0])


YOLOX = dict(
    type="YOLOXHead",
    num_classes=80,
    in_channels=8,
    feat_channels=8,
    strides=[8, 16, 32, 64, 128],
)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("no boxes", "bbox_head.retina_cls was left out: the validation pipeline loads no boxes"),
        ("YOLOX", "the model has no classifier of a known kind for two or more classes"),
    ],
)
def test_what_stands_in_the_way_is_one_sentence_and_no_error(coco, tmp_path, how, sentence):
    cfg = retinanet(coco, tmp_path)
    if how == "no boxes":
        cfg.val_dataloader.dataset.pipeline = [LOAD, RESIZE, PACK]
    else:
        cfg.model.bbox_head = YOLOX
        cfg.model.train_cfg = dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5))
    runner = validated(cfg, tmp_path / "run")
    # What an earlier evaluation had found is not said again.
    if how == "no boxes":
        runner.message_hub.update_scalar("val/mcbr/bbox_head.retina_cls", 0.5)
    runner.val_loop.run()
    text = "".join(path.read_text() for path in (tmp_path / "run").glob("*/*.log"))
    assert text.count(f"Cross-boundary risk (MCBR) is not logged: {sentence}.") == 1
    assert text.count("Cross-boundary risk") == 1 and "mcbr/" not in text


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="most=0 must be at least 1"):
        CrossBoundaryRiskHook(most=0)
