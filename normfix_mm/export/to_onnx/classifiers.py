"""MMPretrain's image classifiers for a trace: scores of a batch of images."""

from __future__ import annotations

from mmpretrain.models import ClsHead, ImageClassifier
from torch import Tensor, nn

from normfix_mm.export.to_onnx.images import Images
from normfix_mm.export.to_onnx.stock import check_stock

OUTPUTS = dict(scores="float32 (N, classes): they sum to one")


def traceable(model: nn.Module) -> nn.Module:
    """The classifier as a module from images (N, 3, H, W) to scores.

    Raises:
        BadInput: It predicts in another way than by a softmax over its head's output.
    """
    check_stock(model, ImageClassifier, "predict")
    check_stock(model.head, ClsHead, "predict", "_get_predictions")
    return Classifier(model)


class Classifier(nn.Module):
    outputs = ("scores",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.images, self.model = Images(model.data_preprocessor), model

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.extract_feat(self.images(images))
        return self.model.head(features).softmax(1)
