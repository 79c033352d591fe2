"""torchvision, for its own VGG-19."""

import sys

import torch

DECLARED = torch.library.Library("torchvision", "FRAGMENT")


def torchvision():
    """Import torchvision, also where its compiled operators cannot be loaded.

    A CPU build of torch beside the package index's torchvision (built for CUDA) leaves the
    operators ``nms`` and ``qnms`` undefined, and the import dies registering shape functions for
    them. We use neither; declaring their schemas is enough for the import.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            DECLARED.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision
    return torchvision
