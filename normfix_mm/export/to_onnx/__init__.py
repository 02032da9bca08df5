"""Folded models as ONNX, whole: from the image to boxes, label map or scores."""
