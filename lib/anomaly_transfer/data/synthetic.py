"""Synthetic defects on real images: five kinds, graded, with exact masks.

A defect changes pixels inside its mask and nowhere else, and fades out at its rim, so that no border of a pasted
patch, no resampling and no compression tells the picture from one without defect. With ``severity`` 0 the mask is
empty and the image stays as it is, bit for bit: the control that every use of the generator should contain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

#: Lengths are given for an image of this side, and scaled with its shorter side.
_SIDE = 96
#: Outlines are drawn this much larger, then reduced, so that they have no steps.
_FINER = 4
#: Below this opacity a defect is not there: less than one grey level in most images.
_FAINT = 0.02

Point = tuple[float, float]


def draw(pixels: np.ndarray, kind: str, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect at a random place.

    Parameters
    ----------
    pixels : uint8 array, shape (height, width) or (height, width, 3)
    kind : str
        One of ``KINDS``.
    severity : float in 0..1
        Size and contrast grow with it; 0 draws nothing.
    rng : numpy Generator
        Equal generators give equal defects; the place and course do not depend on the severity.

    Returns
    -------
    changed : uint8 array of the same shape
    mask : bool array, shape (height, width)
        True where the defect is; outside of it ``changed`` equals ``pixels``.

    Raises
    ------
    ValueError
        If there is no such kind, or the severity is outside 0..1.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no synthetic defect {kind!r}; choose from {', '.join(KINDS)}.")
    if not 0 <= severity <= 1:
        raise ValueError(f"The severity of a defect is between 0 and 1, not {severity}.")
    grey = pixels.astype(np.float64).reshape(*pixels.shape[:2], -1)
    opacity, colour = KINDS[kind](grey, severity, rng)
    opacity = np.where(opacity < _FAINT, 0.0, opacity) * (severity > 0)
    changed = grey + opacity[..., None] * (colour - grey)
    mask = opacity > 0
    result = np.where(mask[..., None], changed.round().clip(0, 255), grey).astype(np.uint8)
    return result.reshape(pixels.shape), mask


def _crack(grey: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark, wandering line that thins out towards its ends."""
    scale, (x, y) = _scale(grey), _place(grey, rng)
    angle = rng.uniform(0, 2 * np.pi)
    turns = rng.normal(0, 0.45, 40)
    steps = 6 + round(26 * severity)
    line = [(x, y)]
    for turn in turns[:steps]:
        # Pulled back to its first direction, so that it crosses the image instead of curling up.
        course = angle + turn
        x, y = x + 2.4 * scale * np.cos(course), y + 2.4 * scale * np.sin(course)
        line.append((x, y))
    widths = (0.8 + 1.6 * severity) * np.sin(np.linspace(0.15, np.pi - 0.15, len(line) - 1))
    opacity = _outline(grey, lambda pen: _strokes(pen, line, widths * scale))
    return opacity * (0.45 + 0.4 * severity), np.zeros_like(grey)


def _scratch(grey: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright, nearly straight, thin line."""
    scale, (x, y) = _scale(grey), _place(grey, rng)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
    t = np.linspace(0, (16 + 44 * severity) * scale, 24)
    course = angle + bend * t / t[-1]
    line = list(zip(x + t * np.cos(course), y + t * np.sin(course), strict=True))
    widths = np.full(len(line) - 1, (0.7 + 0.7 * severity) * scale)
    opacity = _outline(grey, lambda pen: _strokes(pen, line, widths))
    return opacity * (0.3 + 0.4 * severity), np.full_like(grey, 255.0)


def _pit(grey: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A small hollow: dark on the side of the light, bright on the other."""
    scale, (x, y) = _scale(grey), _place(grey, rng)
    light, flat = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.0)
    radius = (2.2 + 4.5 * severity) * scale
    rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]]
    opacity = _outline(grey, lambda pen: _ellipse(pen, x, y, radius, radius * flat))
    across = ((columns - x) * np.cos(light) + (rows - y) * np.sin(light)) / radius
    shade = 25.0 + 190.0 / (1 + np.exp(-7 * (across - 0.6)))
    return opacity * (0.5 + 0.35 * severity), np.repeat(shade[..., None], grey.shape[2], axis=2)


def _stain(grey: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A large, soft, darker patch through which the texture still shows."""
    scale, (x, y) = _scale(grey), _place(grey, rng)
    radius = (9 + 11 * severity) * scale
    drops = rng.normal(0, 0.55, (5, 2))

    def blobs(pen: ImageDraw.ImageDraw) -> None:
        for dx, dy in drops:
            _ellipse(pen, x + dx * radius, y + dy * radius, 0.6 * radius, 0.6 * radius)

    opacity = gaussian_filter(_outline(grey, blobs), 0.22 * radius)
    return opacity * (0.22 + 0.3 * severity), 0.25 * grey


def _missing(grey: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A piece broken out: an angular hole on a plain dark ground."""
    scale, (x, y) = _scale(grey), _place(grey, rng)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = (5 + 10 * severity) * scale * rng.uniform(0.6, 1.15, 9)
    corners = list(zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True))
    opacity = _outline(grey, lambda pen: pen.polygon([(_FINER * a, _FINER * b) for a, b in corners], fill=255))
    ground = 0.3 * grey.mean() + rng.normal(0, 3, grey.shape[:2])
    return opacity * (0.75 + 0.25 * severity), np.repeat(ground[..., None], grey.shape[2], axis=2)


#: Kinds of defects: functions from (image, severity, generator) to opacity (height, width) and colour.
KINDS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "crack": _crack,
    "pit": _pit,
    "scratch": _scratch,
    "stain": _stain,
    "missing": _missing,
}


def _scale(grey: np.ndarray) -> float:
    return min(grey.shape[:2]) / _SIDE


def _place(grey: np.ndarray, rng: np.random.Generator) -> Point:
    """A point not too near to the border, as (x, y)."""
    height, width = grey.shape[:2]
    return rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height


def _outline(grey: np.ndarray, shape: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """Opacity (height, width) in 0..1 of what ``shape`` draws in white, with a soft rim."""
    height, width = grey.shape[:2]
    canvas = Image.new("L", (_FINER * width, _FINER * height))
    shape(ImageDraw.Draw(canvas))
    return gaussian_filter(np.asarray(canvas.reduce(_FINER)) / 255, 0.6 * _scale(grey))


def _strokes(pen: ImageDraw.ImageDraw, line: list[Point], widths: np.ndarray) -> None:
    for (x0, y0), (x1, y1), width in zip(line, line[1:], widths, strict=False):
        ends = [(_FINER * x0, _FINER * y0), (_FINER * x1, _FINER * y1)]
        pen.line(ends, fill=255, width=max(1, round(_FINER * width)))
        # A round joint, so that the turns of a wide line leave no gaps.
        _ellipse(pen, x1, y1, width / 2, width / 2)


def _ellipse(pen: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float) -> None:
    pen.ellipse([_FINER * (x - rx), _FINER * (y - ry), _FINER * (x + rx), _FINER * (y + ry)], fill=255)
