"""An ONNX file of a folded model, after onnxruntime has computed with it what torch computes.

One input, ``images``: what the test pipeline of the config hands over, resized and not normalized,
of any height and width; the graph swaps channels, normalizes and pads. The file's metadata say that
again, and name outputs and classes. The graph comes from torch's exporter by tracing, which every
supported torch has; a trace has one way through the code, hence the second image size to compare.
"""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

import normfix_mm
from normfix_mm.errors import BadInput, one_line
from normfix_mm.export.same_network import (
    Tolerance,
    compare_instances,
    difference,
    load,
    remove_score_threshold,
)
from normfix_mm.export.to_onnx.layers import follow_sizes

OPSET = 17
# The two libraries add in different orders: each is as far from what float64 gives.
ALLOWED = Tolerance(coordinate=5e-4, score=1e-3, pixels=5e-3, alone=0.05)
LOGITS = 1e-4  # |a - b| / |b|
INPUT = (
    "{dtype} ({batch}, 3, H, W), any H and W: the image as the config's test pipeline hands it "
    "over, resized and not normalized; BGR, 0 to 255, unless the pipeline says otherwise"
)


def check_available() -> None:
    """Raises BadInput, which names the command, if a package is absent."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise BadInput(
            f"--onnx needs onnx and onnxruntime ({one_line(error)}): pip install onnx onnxruntime"
        ) from None


def write_onnx(
    model: nn.Module, cfg: Config, image: Path, path: Path, classes: Sequence[str] | None = None
) -> list[str]:
    """Write ``path`` and run it in onnxruntime on ``image`` at two sizes.

    A detector that finds nothing is compared once more, both without their score thresholds.

    Args:
        model: Folded.
        cfg: Its config.
        classes: Names for the metadata.

    Returns:
        The differences from torch, in words.

    Raises:
        BadInput: The model cannot be exported whole, or the file computes something else.
    """
    model.eval()
    batch = load(cfg, image)
    batches = [batch, _resized(batch)]
    _export(model, batch, path, classes)
    lines, fine, count = _compare(model, path, batches)
    if fine and not count:
        lowered = copy.deepcopy(model)
        remove_score_threshold(lowered)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            other = Path(folder) / path.name
            _export(lowered, batch, other, classes)
            lines, fine, _ = _compare(lowered, other, batches)
        lines = [f"{line}; with no score threshold, as none are above it" for line in lines]
    if not fine:
        raise BadInput(
            "onnxruntime does not compute what torch does, so nothing was written (if most boxes "
            "agree, or the model is hardly trained, nearly equal scores may be the cause: give "
            f"another --image); on {image}: {'; '.join(lines)}."
        )
    return [f"{path.name}, one input for images of any size, in onnxruntime:", *lines]


def _family(model: nn.Module):
    """The module of the model's framework."""
    if hasattr(model, "decode_head"):
        from normfix_mm.export.to_onnx import segmenters as family
    elif hasattr(model, "head"):
        from normfix_mm.export.to_onnx import classifiers as family
    else:
        from normfix_mm.export.to_onnx import detectors as family
    return family


def _export(model: nn.Module, batch: dict, path: Path, classes: Sequence[str] | None) -> None:
    import onnx

    family = _family(model)
    try:
        whole = family.traceable(copy.deepcopy(model)).eval()
    except BadInput as error:
        raise BadInput(
            f"{type(model).__name__} cannot leave whole as ONNX: {error} Without --onnx the config "
            "and the checkpoint are written."
        ) from None
    follow_sizes(whole)
    images = torch.stack(batch["inputs"])
    many = family.__name__.rpartition(".")[2] != "detectors"
    axes = {0: "N"} if many else {}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each size that the trace takes for a constant
            torch.onnx.export(
                whole,
                (images,),
                path,
                input_names=["images"],
                output_names=list(whole.outputs),
                dynamic_axes=dict(images=axes | {2: "H", 3: "W"}),
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:
        raise BadInput(
            f"{type(model).__name__} cannot leave whole as ONNX: {one_line(error)}. Without --onnx "
            "the config and the checkpoint are written."
        ) from None
    graph = onnx.load(path)
    said = dict(
        images=INPUT.format(dtype=str(images.dtype).partition(".")[2], batch="N" if many else 1),
        **{name: family.OUTPUTS[name] for name in whole.outputs},
        classes=json.dumps(list(classes)) if classes else "",
        folded_by=f"normfix_mm {normfix_mm.__version__}",
    )
    onnx.helper.set_model_props(graph, said)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _run(path: Path, batch: dict) -> dict[str, Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = dict(images=torch.stack(batch["inputs"]).numpy())
    return dict(zip(names, map(torch.from_numpy, session.run(names, given))))


def _resized(batch: dict) -> dict:
    """The same image at another size, of another ratio and in no way a multiple of a stride."""
    (image,) = batch["inputs"]
    height, width = image.shape[1:]
    size = (max(8, height * 5 // 6) | 1, max(8, width * 3 // 4) | 1)
    small = nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0]
    return dict(inputs=[small.round().to(image.dtype)], data_samples=batch["data_samples"])


def _compare(model: nn.Module, path: Path, batches: list[dict]) -> tuple[list[str], bool, int]:
    """The differences in words, whether they are small, and how many results there were."""
    lines, fine, count = [], True, 0
    for batch in batches:
        height, width = batch["inputs"][0].shape[1:]
        expected = _predict(model, batch)
        text, same = _difference(_run(path, batch), expected)
        lines.append(f"{width}×{height}: {text}")
        fine &= same
        count += len(expected.get("pred_instances", "one"))
    return lines, fine, count


@torch.no_grad()
def _predict(model: nn.Module, batch: dict):
    """What the model itself predicts, at the size of the image given, not of the file's."""
    (sample,) = copy.deepcopy(batch["data_samples"])
    size = tuple(batch["inputs"][0].shape[1:])
    sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1, 1)))
    try:
        return model.test_step(dict(inputs=list(batch["inputs"]), data_samples=[sample]))[0]
    except Exception as error:
        raise BadInput(
            f"{type(model).__name__} cannot leave as ONNX for images of any size: in torch it "
            f"fails at {size[1]}×{size[0]} ({one_line(error)})."
        ) from None


def _difference(found: dict[str, Tensor], expected) -> tuple[str, bool]:
    if "pred_instances" in expected:
        boxes = expected.pred_instances
        if not len(found["boxes"]) and not len(boxes):
            return "no boxes in either", True
        fields = {name: value for name, value in found.items() if name != "boxes"}
        ours = InstanceData(bboxes=found["boxes"], **fields)
        return compare_instances(ours, boxes, "onnxruntime", ALLOWED)
    if "seg_logits" in expected:
        change = difference(found["logits"][0], expected.seg_logits.data)
        moved = (found["labels"][0] != expected.pred_sem_seg.data[0]).float().mean().item()
        text = f"logits differ relatively by {change:.1e} (tolerance {LOGITS:.0e})"
        return f"{text}, {moved:.2%} pixels", change <= LOGITS and moved <= ALLOWED.pixels
    change, allowed = float((found["scores"][0] - expected.pred_score).abs().max()), ALLOWED.score
    return f"scores differ by at most {change:.1e} (tolerance {allowed:.0e})", change <= allowed
