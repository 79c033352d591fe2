"""The procedural exemplars are pure, sized, colourful and, where promised, stationary."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from texnet.exemplars import EXEMPLARS, MIN_SIZE, STATIONARY, draw

SIZE = 64
NAMES = sorted(EXEMPLARS)


@functools.cache
def picture(name: str, size: int = SIZE, seed: int = 0) -> NDArray[np.float32]:
    """One drawing, drawn once for all tests that only look at it."""
    image = draw(name, size, seed)
    image.setflags(write=False)
    return image


def block_means(image: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    """Mean colours of the blocks x blocks equal parts of a picture."""
    side = len(image) // blocks
    return image.reshape(blocks, side, blocks, side, 3).mean(axis=(1, 3))


def test_stationary_names_are_drawn() -> None:
    assert STATIONARY
    assert set(STATIONARY) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_range(name: str) -> None:
    image = picture(name)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0.0
    assert image.max() <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_strong_contrast_in_colour(name: str) -> None:
    image = picture(name)
    assert image.std(axis=(0, 1)).min() > 0.08
    assert np.ptp(image, axis=2).mean() > 0.1, "close to grey"


@pytest.mark.parametrize("name", NAMES)
def test_pure_function_of_name_size_and_seed(name: str) -> None:
    first = picture(name)
    np.random.seed(3)
    untouched = np.random.random()
    np.random.seed(3)
    again = draw(name, SIZE, 0)
    assert np.random.random() == untouched, "global random state touched"
    assert again.tobytes() == first.tobytes()
    assert np.abs(picture(name, SIZE, 1) - first).mean() > 0.05


def test_same_bytes_in_a_process_with_another_hash_seed() -> None:
    code = (
        "import hashlib; from texnet.exemplars import draw;"
        "print(hashlib.sha256(draw('scales', 32, 5).tobytes()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(draw("scales", 32, 5).tobytes()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_two_sizes_show_the_same_painting(name: str) -> None:
    small, large = draw(name, SIZE // 2, 0), block_means(picture(name), SIZE // 2)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", STATIONARY)
def test_textures_are_roughly_stationary(name: str, seed: int) -> None:
    quadrants = block_means(picture(name, SIZE, seed), 2)
    assert np.ptp(quadrants, axis=(0, 1)).max() < 0.15


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'starry_knight'") as caught:
        draw("starry_knight")
    assert all(name in str(caught.value) for name in NAMES)


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {MIN_SIZE} pixels, got {MIN_SIZE - 1}"):
        draw("scales", MIN_SIZE - 1)
    assert draw("scales", MIN_SIZE).shape == (MIN_SIZE, MIN_SIZE, 3)
