"""Pictures made up for tests."""

from pathlib import Path

import numpy as np
import torch

from texnet import data


def picture(path, width, height, seed=0):
    """A smooth picture with a grain."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 5, 7), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    grain = torch.from_numpy(rng.random((3, height, width), dtype=np.float32))
    data.write_image(Path(path), 0.7 * smooth + 0.3 * grain)
    return Path(path)
