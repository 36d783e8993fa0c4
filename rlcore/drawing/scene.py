"""A picture as a list of shapes, written as SVG or, by pygame, as PNG; both look the same."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from rlcore.errors import MissingExtraError

__all__ = ["Scene", "mix"]

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

#: A PNG has so many pixels for each unit of the scene, and is drawn still larger, for smooth edges.
PIXELS, FINER = 2, 3
FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif"


def mix(color: str, other: str, share: float) -> str:
    """A colour between two, ``share`` of the way to the other.

    >>> mix("#000000", "#ffffff", 0.5)
    '#808080'
    """
    a, b = (_channels(c) for c in (color, other))
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in zip(a, b, strict=True))


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@dataclass(frozen=True)
class _Line:
    points: tuple[Point, ...]
    color: str
    width: float
    dash: float


@dataclass(frozen=True)
class _Polygon:
    points: tuple[Point, ...]
    color: str


@dataclass(frozen=True)
class _Circle:
    center: Point
    radius: float
    color: str


@dataclass(frozen=True)
class _Text:
    at: Point
    text: str
    size: float
    color: str
    anchor: Anchor
    bold: bool


@dataclass
class Scene:
    """Shapes on a white ground, in the order in which they cover each other; colours are ``#rrggbb``."""

    width: float
    height: float
    _shapes: list[Any] = field(default_factory=list)

    def line(self, points: Iterable[Point], color: str, width: float = 1.0, *, dash: float = 0.0) -> None:
        """A line through points."""
        self._shapes.append(_Line(tuple(points), color, width, dash))

    def polygon(self, points: Iterable[Point], color: str) -> None:
        """A filled area."""
        self._shapes.append(_Polygon(tuple(points), color))

    def circle(self, center: Point, radius: float, color: str) -> None:
        """A disc."""
        self._shapes.append(_Circle(center, radius, color))

    def text(
        self, at: Point, text: str, size: float = 11, color: str = "#1f2937", *, anchor: Anchor = "start", bold: bool = False
    ) -> None:
        """A line of text on its baseline."""
        self._shapes.append(_Text(at, text, size, color, anchor, bold))

    # --- SVG ------------------------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        w, h = self.width, self.height
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:g} {h:g}" font-family="{FONT}">'
        ground = f'<rect width="{w:g}" height="{h:g}" fill="#ffffff"/>'
        return "\n".join([head, ground, *map(_as_svg, self._shapes), "</svg>", ""])

    # --- PNG ------------------------------------------------------------------------------------------------------------

    def save_png(self, path: Path) -> None:
        """Write the picture as a PNG file.

        Raises:
            MissingExtraError: pygame is not installed.
        """
        require_png()
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        pygame = importlib.import_module("pygame")
        pygame.font.init()
        k = PIXELS * FINER
        surface = pygame.Surface((round(self.width * k), round(self.height * k)))
        surface.fill("#ffffff")
        for shape in self._shapes:
            _PAINT[type(shape)](pygame, surface, shape, k)
        size = round(self.width * PIXELS), round(self.height * PIXELS)
        pygame.image.save(pygame.transform.smoothscale(surface, size), str(path))


def require_png() -> None:
    """Raise MissingExtraError where pygame is missing; imports nothing."""
    if importlib.util.find_spec("pygame") is None:
        package = "pygame"
        raise MissingExtraError(package, needed_for="a PNG picture", extra="draw")


def _as_svg(shape: Any) -> str:
    match shape:
        case _Line(points, color, width, dash):
            dashes = f' stroke-dasharray="{dash:g} {dash:g}"' if dash else ""
            joined = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
            return (
                f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="{width:g}" '
                f'stroke-linejoin="round" stroke-linecap="round"{dashes}/>'
            )
        case _Polygon(points, color):
            return f'<polygon points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in points)}" fill="{color}"/>'
        case _Circle((x, y), radius, color):
            return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="{color}"/>'
        case _Text((x, y), text, size, color, anchor, bold):
            weight = ' font-weight="600"' if bold else ""
            where = f'x="{x:.2f}" y="{y:.2f}" font-size="{size:g}" fill="{color}" text-anchor="{anchor}"{weight}'
            return f"<text {where}>{escape(text)}</text>"
    raise TypeError(shape)


def _paint_line(pygame: Any, surface: Any, shape: _Line, k: int) -> None:
    points = [(x * k, y * k) for x, y in (_dashed(shape.points, shape.dash) if shape.dash else shape.points)]
    width = max(round(shape.width * k), 1)
    pairs = list(zip(points[::2], points[1::2], strict=True)) if shape.dash else list(pairwise(points))
    for a, b in pairs:
        pygame.draw.line(surface, shape.color, a, b, width)
    if width > 2 * k // PIXELS and not shape.dash:
        for point in points:  # rounded joints
            pygame.draw.circle(surface, shape.color, point, width / 2)


def _dashed(points: Sequence[Point], dash: float) -> list[Point]:
    """The ends of the dashes of the line from the first point to the last."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
    ends = [min(i * dash, length) / length for i in range(int(length / dash) + 2)]
    ends = ends[: len(ends) // 2 * 2]
    return [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in ends]


def _paint_polygon(pygame: Any, surface: Any, shape: _Polygon, k: int) -> None:
    pygame.draw.polygon(surface, shape.color, [(x * k, y * k) for x, y in shape.points])


def _paint_circle(pygame: Any, surface: Any, shape: _Circle, k: int) -> None:
    pygame.draw.circle(surface, shape.color, (shape.center[0] * k, shape.center[1] * k), shape.radius * k)


def _paint_text(pygame: Any, surface: Any, shape: _Text, k: int) -> None:
    font = pygame.font.Font(None, round(shape.size * k * 1.32))  # its size is that of the line, not of the letters
    image = font.render(shape.text, True, shape.color)
    (x, y), width = shape.at, image.get_width()
    left = x * k - {"start": 0, "middle": width / 2, "end": width}[shape.anchor]
    surface.blit(image, (left, y * k - font.get_ascent()))


_PAINT: dict[type, Any] = {_Line: _paint_line, _Polygon: _paint_polygon, _Circle: _paint_circle, _Text: _paint_text}
