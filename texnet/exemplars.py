"""Procedural style and texture exemplars, so that no painting has to be downloaded.

Every picture is painted at twice the requested size, in units of the picture's width, and averaged
down. All random draws have shapes that do not depend on the size, so that two sizes of one
(name, seed) show the same painting.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon

Array = NDArray[Any]  # float64, or int where it holds indices
Window = tuple[slice, slice]
Painter = Callable[[int, Generator], tuple[Array, Array]]
Drawing = Callable[[int, Generator], NDArray[np.float32]]

EXEMPLARS: dict[str, Drawing] = {}
STATIONARY = ("berries", "mosaic", "pebbles", "scales", "stained_glass")
MIN_SIZE = 32
_SUPERSAMPLE = 2
_LIGHT = np.array([-0.5, -0.6, 0.62])  # from the upper left: x right, y down, z to the viewer


def draw(name: str, size: int = 256, seed: int = 0) -> NDArray[np.float32]:
    """Return exemplar `name` as a (size, size, 3) RGB picture in [0, 1]."""
    if name not in EXEMPLARS:
        raise ValueError(f"unknown exemplar {name!r}; known: {', '.join(sorted(EXEMPLARS))}")
    if size < MIN_SIZE:
        raise ValueError(f"exemplar size must be at least {MIN_SIZE} pixels, got {size}")
    return EXEMPLARS[name](size, np.random.default_rng([seed, zlib.crc32(name.encode())]))


def _exemplar(paint: Painter) -> Drawing:
    """Register a painter of (colour, height): light the relief, add grain and average down."""

    @functools.wraps(paint)
    def drawing(size: int, rng: Generator) -> NDArray[np.float32]:
        n = _SUPERSAMPLE * size
        colour, height = paint(n, rng)
        light = 1 - 0.3 * np.tanh(np.tensordot(_LIGHT[:2], _slopes(height), 1))
        light *= 1 + 0.025 * _noise(rng, _grid(n), 230, order=1)
        fine = np.clip(colour * light[..., None], 0, 1)
        blocks = fine.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE, 3)
        return blocks.mean(axis=(1, 3)).astype(np.float32)

    EXEMPLARS[paint.__name__] = drawing
    return drawing


def _grid(n: int) -> Array:
    """Pixel centres, stacked as (x, y), of an n x n picture of unit width."""
    centres = (np.arange(n) + 0.5) / n
    return np.stack(np.meshgrid(centres, centres))


def _noise(rng: Generator, at: Array, cells: int, order: int = 3) -> Array:
    """Smooth periodic noise of about unit variance with `cells` random knots per width."""
    lattice = rng.standard_normal((cells, cells))
    return ndimage.map_coordinates(lattice, at[::-1] * cells, order=order, mode="grid-wrap")


def _fbm(rng: Generator, at: Array, cells: int, octaves: int = 3) -> Array:
    """Octaves of noise, each twice as fine and half as strong, of about unit variance."""
    layers = [_noise(rng, at, cells << k) * 0.5**k for k in range(octaves)]
    return np.sum(layers, axis=0) / np.sqrt(0.55 * sum(0.25**k for k in range(octaves)))


def _rgb(colours: str) -> Array:
    """Array of RGB rows from space-separated six-digit hex colours."""
    return np.array([list(bytes.fromhex(colour)) for colour in colours.split()]) / 255


def _palette(t: Array, colours: str) -> Array:
    """Colours at t in [0, 1] along an even ramp."""
    ramp = _rgb(colours)
    knots = np.linspace(0.0, 1.0, len(ramp))
    return np.stack([np.interp(t, knots, channel) for channel in ramp.T], axis=-1)


def _scatter(rng: Generator, side: int, jitter: float = 0.9) -> Array:
    """Shuffled (x, y) points of a jittered grid on the picture and a margin of half a cell."""
    cells = np.stack(np.divmod(rng.permutation((side + 2) ** 2), side + 2))
    return (cells - 0.5 + jitter * (rng.random(cells.shape) - 0.5)) / side


def _at(field: Array, points: Array) -> Array:
    """Values of a gridded field at the pixels nearest to (x, y) points."""
    col, row = np.clip((points * len(field)).astype(int), 0, len(field) - 1)
    return field[row, col]


def _slopes(field: Array) -> Array:
    """Gradient of a gridded field as stacked (d/dx, d/dy)."""
    return np.stack(list(np.gradient(field, 1.0 / len(field)))[::-1])


def _local(n: int, x: float, y: float, reach: float, angle: float) -> tuple[Window, Array, Array]:
    """Window about a point with its coordinates along (u) and across (v) the direction."""
    spans = [np.clip([(c - reach) * n, (c + reach) * n + 2], 0, n).astype(int) for c in (y, x)]
    dy, dx = ((np.arange(*s) + 0.5) / n - c for s, c in zip(spans, (y, x), strict=True))
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = cos * dx + sin * dy[:, None], cos * dy[:, None] - sin * dx
    return (slice(*spans[0]), slice(*spans[1])), u, v


def _lay(canvas: Array, window: Window, alpha: Array, paint: Array | float) -> None:
    """Blend paint over a window of a colour or height canvas."""
    patch = canvas[window]
    patch += (alpha[..., None] if patch.ndim == 3 else alpha) * (paint - patch)


def _cells(n: int, points: Array, angle: Array, reach: float, norm: float) -> tuple[Array, ...]:
    """Voronoi cells of oriented points: owner and runner-up of each pixel, and their distances."""
    best, second = np.full((n, n), reach), np.full((n, n), 2 * reach)
    owner, other = np.zeros((2, n, n), dtype=int)
    for k, (x, y) in enumerate(points.T):
        window, u, v = _local(n, x, y, reach, angle[k])
        dist = np.maximum(np.abs(u), np.abs(v)) if norm == np.inf else np.hypot(u, v)
        old, lead, closer = best[window], owner[window], dist < best[window]
        runner = np.where(dist < second[window], k, other[window])
        other[window] = np.where(closer, lead, runner)
        second[window] = np.minimum(second[window], np.maximum(dist, old))
        owner[window] = np.where(closer, k, lead)
        best[window] = np.minimum(dist, old)
    return owner, other, best, second


def _panes(n: int, seeds: Array, reach: float) -> tuple[Array, Array]:
    """Euclidean Voronoi owner of each pixel and distance to the border with the runner-up."""
    owner, other, near, far = _cells(n, seeds, np.zeros(seeds.shape[1]), reach, 2)
    apart = np.hypot(*(seeds[:, owner] - seeds[:, other]))
    return owner, (far**2 - near**2) / (2 * apart + 1e-9)


def _lump(
    canvas: Array, place: Array, half: Array, flat: float, lobes: Array, point: float = 0.0
) -> tuple[Window, Array, Array, Array, Array, Array]:
    """Shade a dome at (x, y, angle): its window, unit coordinates, cover, light and gloss.

    Its two half axes are bent by lobes and a point at the ends; its shadow is cast on the canvas.
    """

    def outline(a: Array, b: Array) -> tuple[Array, Array]:
        turns = np.arctan2(b, a) + lobes[1, :, None, None]
        waves = np.cos(np.arange(2, 5)[:, None, None] * turns)
        wavy = 1 + np.tensordot(lobes[0], waves, 1)
        return a / wavy, b / wavy / np.clip(1 - a * a, 0.02, 1) ** point

    n, (cos, sin) = len(canvas), (np.cos(place[2]), np.sin(place[2]))
    window, u, v = _local(n, place[0], place[1], 1.5 * half[0], place[2])
    u, v = u / half[0], v / half[1]
    cast = np.hypot(*outline(u - 0.17 * (cos + sin), v - 0.17 * (cos - sin)))
    _lay(canvas, window, 0.8 * np.clip((1.33 - cast) / 0.55, 0, 1), 0.04)
    a, b = outline(u, v)
    rho2 = np.minimum(a * a + b * b, 0.97)
    steep = rho2 ** ((flat - 1) / 2) / np.sqrt(1 - rho2)
    lit = (cos * a - sin * b) * _LIGHT[0] + (sin * a + cos * b) * _LIGHT[1]
    facing = np.clip((steep * lit + _LIGHT[2]) / np.sqrt(1 + steep**2 * rho2), 0, 1)
    cover = np.clip((1 - np.hypot(a, b)) * half[1] * n + 0.5, 0, 1)
    return window, a, b, cover, facing, facing**40


@_exemplar
def swirls(n: int, rng: Generator) -> tuple[Array, Array]:
    """Night sky of curved bristly brush strokes along a curl-noise flow with glowing vortices."""
    grid = _grid(256)
    curl = 0.2 * _slopes(_fbm(rng, grid, 3, 2))
    flow, tone = np.stack([1 + curl[1], -curl[0]]), 0.2 + 0.1 * _fbm(rng, grid, 4)
    for centre in _scatter(rng, 3, 0.8).T:
        radius, glow = rng.uniform(0.08, 0.22), rng.uniform(0.1, 1.0)
        dx, dy = grid - centre[:, None, None]
        r = np.hypot(dx, dy) + 1e-6
        pull = np.exp(-((r / radius) ** 2))
        flow = flow * (1 - pull) + 2 * pull * np.stack([-dy - 0.15 * dx, dx - 0.15 * dy]) / r
        tone += pull * (0.2 * glow + 0.18 * np.cos(2 * np.pi * r / (0.55 * radius)))
        tone += 0.5 * glow * np.exp(-((r / (0.42 * radius)) ** 2))
    flow /= np.hypot(*flow) + 1e-6
    turn_x, turn_y = (np.sum(flow * _slopes(part), axis=0) for part in flow)
    bend, heading = flow[0] * turn_y - flow[1] * turn_x, np.arctan2(flow[1], flow[0])
    bristles = ndimage.gaussian_filter(rng.standard_normal((256, 256)), (0.7, 12), mode="wrap")
    bristles /= bristles.std()
    inks = "050a24 0d1d59 163f94 2677bd 58bcd0 bfe3cc f8e88c fbc02f f0851c d9541e"
    canvas, height = _palette(_at(tone, _grid(n)), inks), np.zeros((n, n))
    for side, length, width in ((20, 0.17, 0.03), (32, 0.12, 0.02), (46, 0.075, 0.012)):
        at = _scatter(rng, side)
        ink = _palette(_at(tone, at) + 0.08 * rng.standard_normal(at.shape[1]), inks)
        ink *= 1 + 0.09 * rng.standard_normal(ink.shape)
        halves = 0.5 * length * rng.uniform(0.65, 1.3, at.shape[1:])
        curve = np.clip(_at(bend, at), -0.7 / halves, 0.7 / halves)
        skip, angle = rng.integers(0, 256, at.shape), _at(heading, at)
        for k, half in enumerate(halves):
            window, u, v = _local(n, at[0, k], at[1, k], half + width, angle[k])
            v = v - 0.5 * curve[k] * u * u
            rows, cols = (v * 200 + skip[0, k]).astype(int), (u * 400 + skip[1, k]).astype(int)
            hair = bristles[rows & 255, cols & 255]
            taper = np.clip(1 - np.abs(u / (half * (1 + 0.12 * hair))) ** 3, 0, 1)
            alpha = np.clip((0.5 * width * np.sqrt(taper) - np.abs(v)) * n + 0.5, 0, 1)
            alpha *= (taper > 0) * np.clip(1.4 + 0.5 * hair, 0, 1)
            _lay(canvas, window, alpha, ink[k] + (0.2 * ink[k] + 0.025) * hair[..., None])
            _lay(height, window, alpha, 0.01 * hair + 0.3 * width)
    return canvas, height


@_exemplar
def stained_glass(n: int, rng: Generator) -> tuple[Array, Array]:
    """Backlit Voronoi panes of rippled saturated glass, half of them split, in rounded lead."""
    grid = _grid(n)
    seeds = _scatter(rng, 8, 0.95)
    (pane, lead), (chip, crack) = _panes(n, seeds, 0.3), _panes(n, _scatter(rng, 15), 0.2)
    split = rng.random(100)[pane] < 0.5
    lead = np.minimum(lead / 0.0085, np.where(split, crack / 0.005, np.inf))
    hues = _rgb("c8102e e2481a f2a100 f7d117 1b8a3a 0b6e66 1273c4 1a2f9c 7a1f9a 6fc7e8 f3e6b8")
    pick = np.where(split, rng.integers(0, 11, 289)[chip], rng.integers(0, 11, 100)[pane])
    tilt = rng.normal(0, 4, (2, 100))[:, pane] * (grid - seeds[:, pane])
    ripple = _fbm(rng, grid * [[[1]], [[0.5]]] + 0.02 * _noise(rng, grid, 9), 14)
    glow = 0.95 + tilt.sum(axis=0) + 0.14 * ripple
    glow = (glow * (1 - 0.5 * np.exp(-np.maximum(lead - 1, 0) / 1.2)))[..., None]
    glass = hues[pick] ** (1.9 - 0.9 * np.clip(glow, 0.2, 1.6)) * np.clip(glow + 0.1, 0.15, 1.5)
    glass += 0.7 * np.clip(ripple - 1.7, 0, 1)[..., None] * (1 - glass)
    came = 0.06 + 0.3 * np.clip(1 - lead, 0, 1)[..., None] ** 2 * _rgb("b0b4c0")
    alpha = np.clip((lead - 1) * 0.006 * n + 0.5, 0, 1)[..., None]
    height = 0.006 * np.sqrt(np.clip(1 - lead**2, 0, 1)) + 0.0012 * ripple * (lead > 1)
    return came + alpha * (glass - came), height


@_exemplar
def mosaic(n: int, rng: Generator) -> tuple[Array, Array]:
    """Tesserae relaxed (Lloyd, square metric) along the contours of a smooth field, in grout."""
    coarse, fine, side = _grid(128), _grid(n), 1 / 31
    field = _noise(rng, coarse, 4) + 0.3 * _noise(rng, coarse, 7)
    slope = ndimage.gaussian_filter(_slopes(field), (0, 3, 3))
    heading, at = np.arctan2(slope[1], slope[0]), _scatter(rng, 31)
    for _ in range(8):
        owner = _cells(128, at, _at(heading, at), 1.6 * side, np.inf)[0].ravel()
        count = np.bincount(owner, minlength=at.shape[1])
        # Border tiles stay put: their cells are cut by the frame and would pull them inwards.
        moves = (count > 0) & np.all(np.abs(at - 0.5) < 0.5 - 0.6 * side, axis=0)
        sums = np.stack([np.bincount(owner, axis.ravel(), count.size) for axis in coarse])
        at = np.where(moves, sums / np.maximum(count, 1), at)
    owner, _, best, second = _cells(n, at, _at(heading, at), 1.6 * side, np.inf)
    bands = 0.5 + 0.5 * np.sin(3.2 * _at(field, at) + rng.normal(0, 0.16, count.size))
    stone = _palette(bands, "12264f 1d6a8c 4fb3a9 e9e0c0 f0b541 d9621e 8e1b1b")
    stone *= rng.normal(1, 0.16, (count.size, 1)) + rng.normal(0, 0.06, stone.shape)
    tilt, fleck = rng.normal(0, 3.5, at.shape), _fbm(rng, fine, 60)
    facet = 1 + np.sum(tilt[:, owner] * (fine - at[:, owner]), axis=0) + 0.05 * fleck
    grout = _rgb("57493c") * (1 + 0.2 * fleck[..., None])
    inside = np.minimum((second - best) / 2 - 0.0022, 0.72 * side - best)
    alpha = np.clip(inside * n + 0.5, 0, 1)[..., None]
    tiles = stone[owner] * facet[..., None]
    return grout + alpha * (tiles - grout), 0.004 * np.tanh(np.maximum(inside, 0) / 0.003)


@_exemplar
def waves(n: int, rng: Generator) -> tuple[Array, Array]:
    """Woodblock sea: leaning crests filled with engraved blue bands, edged and sprayed by foam."""
    grid, ink, s = _grid(n), _rgb("0d1b3e")[0], np.linspace(-0.3, 1.3, 900)
    fibres, wobble = _fbm(rng, grid * [[[0.4]], [[1]]], 24), _fbm(rng, grid, 10, 2)
    canvas = _palette(grid[1] * 4 + 0.1 * fibres, "e2b878 f3dfb0 f3e7c4")
    for base in np.arange(0.2, 1.4, 0.12):
        knots, pace = s[::112], rng.uniform(2.0, 4.2, 9)
        swing = np.cumsum(np.interp(s, knots, pace)) * (s[1] - s[0]) + rng.random()
        lift = (0.5 + 0.5 * np.cos(2 * np.pi * swing)) ** 1.6
        cx, cy = s - 0.12 * lift**2, base - np.interp(s, knots, rng.uniform(0.09, 0.2, 9)) * lift
        body = np.zeros((n, n), dtype=bool)
        # Every fourth vertex, closed at the frame: polygon() tests each pixel against each edge.
        rows, cols = np.append(cy[::4], [1.2, 1.2]), np.append(cx[::4], [1.3, -0.3])
        body[polygon(rows * n, cols * n, (n, n))] = True
        depth = ndimage.distance_transform_edt(body) / n
        inner = ndimage.gaussian_filter(depth, 0.006 * n) + 0.003 * wobble
        band = _palette(0.5 + 0.5 * np.sin(inner * 150), "12234a 1f4e8c 7fb4cf f3e9cb")
        cut = np.abs(inner * 71 % 1 - 0.5) * 0.014 - 0.0014 - 0.0007 * wobble
        cut = np.clip(cut * n, 0, 1) * np.clip((depth - 0.003) * n, 0, 1)
        sea = (ink + cut[..., None] * (band - ink)) * (
            rng.normal(1, 0.07, 3) + 0.05 * fibres[..., None]
        )
        canvas = np.where(body[..., None], sea, canvas)
        spots = rng.integers(0, s.size, 400)
        high = lift[spots]
        at = np.stack([cx[spots], cy[spots]]) + 0.004 * rng.standard_normal((2, 400))
        radius = np.where(high > 0.2, 0.003 + 0.013 * rng.random(400) * high, 0)
        # Every seventh fleck of foam flies off the crest as spray.
        at[:, ::7] -= np.array([[0.07], [0.03]]) * rng.random((2, 58)) * high[::7]
        radius[::7] *= 0.35
        seen = (radius > 0) & np.all(np.abs(at - 0.5) < 0.52, axis=0)
        for rim, paint in ((0.0028, ink), (0.0, _rgb("fbf4de")[0])):
            for (x, y), r in zip(at[:, seen].T, radius[seen] + rim, strict=True):
                window, u, v = _local(n, x, y, r + 0.004, 0.0)
                _lay(canvas, window, np.clip((r - np.hypot(u, v)) * n + 0.5, 0, 1), paint)
    return canvas, 0.0016 * fibres


@_exemplar
def pebbles(n: int, rng: Generator) -> tuple[Array, Array]:
    """Rounded river stones in three sizes, each with its own tint, speckle and soft shadow."""
    grid = _grid(n)
    speckle, veins = _fbm(rng, grid, 70), np.abs(_fbm(rng, grid, 9, 4))
    canvas = _rgb("1c1712") * (1 + 0.3 * speckle[..., None])
    tints = _rgb("8a5a3a c08a4a d9b98a 5c6a78 3f4a55 9c4a35 b9b2a4 6d858c e0d6c2 b0603a 4a3a34")
    for side, radius, share in ((26, 0.026, 1.0), (13, 0.046, 0.75), (7, 0.078, 0.75)):
        at = _scatter(rng, side, 0.8)
        for x, y in at[:, rng.random(at.shape[1]) < share].T:
            half = radius * rng.uniform(0.75, 1.2) * np.array([1, rng.uniform(0.62, 0.95)])
            place = np.array([x, y, rng.uniform(0, np.pi)])
            lobes = np.stack([rng.normal(0, 0.05, 3), rng.uniform(0, 6.3, 3)])
            window, _, _, cover, light, gloss = _lump(canvas, place, half, 2.2, lobes)
            tint = tints[rng.integers(11)] * rng.normal(1, 0.07, 3)
            # Each stone takes its skin from elsewhere in the shared noise.
            rows, cols = ((np.arange(n)[span] + int(rng.random() * n)) % n for span in window)
            spots, vein = speckle[np.ix_(rows, cols)], veins[np.ix_(rows, cols)]
            skin = tint * (1 + rng.uniform(0.05, 0.22) * spots)[..., None]
            vein = max(rng.normal(-0.2, 0.6), 0) * np.exp(-vein / 0.06)
            skin += vein[..., None] * (0.85 - skin)
            skin = skin * (0.22 + 1.1 * light)[..., None] + 0.14 * gloss[..., None]
            _lay(canvas, window, cover, skin)
    return canvas, 0.001 * speckle


@_exemplar
def scales(n: int, rng: Generator) -> tuple[Array, Array]:
    """Overlapping ribbed fish scales, iridescent from teal to copper, each shading the next row."""
    grid, rows, cols = _grid(256), 25, 13
    drift, tone = 0.05 * _noise(rng, grid, 3), _fbm(rng, grid, 5, 2)
    canvas, height = np.full((n, n, 3), 0.04), np.zeros((n, n))
    for i in range(rows, -3, -1):
        x = (np.arange(-1, cols + 2) + 0.5 * (i % 2) + rng.normal(0, 0.12, cols + 3)) / cols
        at = np.stack([x, (i + rng.normal(0, 0.18, x.size)) / (rows - 2)])
        at[1] += _at(drift, at)
        lean = np.arctan(_at(_slopes(drift)[0], at)) + rng.normal(0, 0.1, x.size)
        t = 0.5 + 0.2 * _at(tone, at) + rng.normal(0, 0.2, x.size)
        hue = _palette(t, "0c2a5e 0f6f8a 1fae8f 8fce5a f2d04a ea8a2a b8321f")
        hue *= rng.normal(1, 0.12, (x.size, 1))
        for k, radius in enumerate(0.052 * rng.uniform(0.92, 1.12, x.size)):
            window, u, v = _local(n, at[0, k], at[1, k], 1.45 * radius, lean[k])
            a, b = u / radius, v / radius
            r = np.hypot(a, b)
            _lay(canvas, window, 0.75 * np.clip((1.32 - r) / 0.4, 0, 1) * (b > 0), 0.04)
            ribs = np.sin(np.arctan2(a, b + 1.1) * 34 + 6.3 * t[k])
            rings = np.sin(r * 24 + t[k])
            shade = 0.22 + 0.8 * np.clip(b + 0.15, 0, 1) + 0.1 * ribs + 0.06 * rings - 0.22 * a
            glint = np.exp(-(((a + 0.3) / 0.16) ** 2) - ((b - 0.5) / 0.22) ** 2)
            glint = 0.4 * glint + 0.3 * np.exp(-(((r - 0.93) / 0.06) ** 2))
            skin = hue[k] * shade[..., None] + glint[..., None] * _rgb("fff4d0")
            alpha = np.clip((1 - r) * radius * n + 0.5, 0, 1)
            _lay(canvas, window, alpha, skin)
            _lay(height, window, alpha, 0.0012 * ribs + 0.0008 * rings)
    return canvas, height


@_exemplar
def berries(n: int, rng: Generator) -> tuple[Array, Array]:
    """Heaped glossy red, orange and green fruit among a few leaves, with dimples and shadows."""
    mottle = _fbm(rng, _grid(n), 40)
    canvas = _rgb("16240c") * (1 + 0.4 * mottle[..., None])
    fruit = _rgb("c8141c e02a1a a80f22 d6361a f07a12 f6a21a f4cf3a 4f9a2a 8fbf3a 5a1230")
    leaf = _rgb("2f7a2c 4f9a34 1d5a2a 7fae3c")
    for side, radius, share in ((16, 0.05, 1.0), (13, 0.06, 0.55), (10, 0.066, 0.55)):
        at = _scatter(rng, side)
        for x, y in at[:, rng.random(at.shape[1]) < share].T:
            place, leafy = np.array([x, y, rng.uniform(0, 2 * np.pi)]), rng.random() < 0.14
            half = radius * rng.uniform(0.7, 1.15) * np.array([1.5, 0.6] if leafy else [1, 0.92])
            flat, point = (2.5, 0.4) if leafy else (1.0, 0.0)
            lump = _lump(canvas, place, half, flat, np.zeros((2, 3)), point)
            window, a, b, cover, light, gloss = lump
            if leafy:
                tint, shine = leaf[rng.integers(4)], 0.3
                ribs = np.exp(-np.abs(b) / 0.1) + 0.4 * (np.sin(30 * a + 12 * np.abs(b)) > 0.3)
            else:
                tint, shine = fruit[rng.integers(10)], 1.2
                dimple = np.exp(-((a - 0.45) ** 2 + (b + 0.1) ** 2) / 0.012)
                ribs = rng.uniform(0, 0.3) * a - 0.75 * dimple
            skin = tint * rng.normal(1, 0.08, 3) * (1 + 0.07 * mottle[window] + ribs)[..., None]
            skin = skin * (0.22 + light[..., None] * [1.05, 0.98, 0.9])
            _lay(canvas, window, cover, skin + shine * gloss[..., None])
    return canvas, 0.0007 * mottle
