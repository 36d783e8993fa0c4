"""A line search for the strong Wolfe conditions (Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6)."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Point", "strong_wolfe"]

#: How much less than the slope promises the value must at least fall, and by how much the slope must flatten.
DECREASE, CURVATURE = 1e-4, 0.9


class Point(NamedTuple):
    """A place on the line: the step that leads there, the value, the gradient (flat), and the slope along the line."""

    step: float
    value: float
    gradient: Any
    slope: float


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through two points and their slopes is least, within bounds; their middle where it has no minimum."""
    left, right = (a, b) if a.step <= b.step else (b, a)
    width = right.step - left.step
    d1 = left.slope + right.slope - 3 * (right.value - left.value) / width
    square = d1 * d1 - left.slope * right.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = sqrt(square)
    best = right.step - width * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return min(max(best, low), high)


def strong_wolfe(
    at: Callable[[float], Point], start: Point, first: float, size: float, tolerance: float = 1e-9, most: int = 25
) -> tuple[Point, int]:
    """A point on the line that satisfies the strong Wolfe conditions, or the best one met, and how many were evaluated.

    ``at`` evaluates a step, ``start`` is step 0 with a slope below zero, ``first`` the first step tried. The search ends when
    the bracket times ``size``, the direction's largest element, is below ``tolerance``, or after ``most`` refinements.
    """
    search = _Search(at, start, most)
    bracket = search.bracket(first)
    if len(bracket) == 2:
        bracket = search.zoom(bracket, size, tolerance)
    return min(bracket, key=lambda point: point.value), search.evaluations


class _Search:
    """What both phases share: the line, the conditions, and the count."""

    def __init__(self, at: Callable[[float], Point], start: Point, most: int) -> None:
        self.at, self.start, self.most = at, start, most
        self.evaluations = 0

    @property
    def refinements(self) -> int:
        return self.evaluations - 1

    def evaluate(self, step: float) -> Point:
        self.evaluations += 1
        return self.at(step)

    def too_high(self, point: Point) -> bool:
        return point.value > self.start.value + DECREASE * point.step * self.start.slope

    def flat(self, point: Point) -> bool:
        return abs(point.slope) <= -CURVATURE * self.start.slope

    def bracket(self, step: float) -> list[Point]:
        """Go on until a minimum must lie behind: the two points around it, or one that is good already."""
        last, point = self.start, self.evaluate(step)
        while self.refinements < self.most:
            if self.too_high(point) or (self.refinements > 1 and point.value >= last.value):
                return [last, point]
            if self.flat(point):
                return [point]
            if point.slope >= 0:
                return [last, point]
            low, high = point.step + 0.01 * (point.step - last.step), point.step * 10
            last, point = point, self.evaluate(cubic_minimum(last, point, low, high))
        return [self.start, point]

    def zoom(self, bracket: list[Point], size: float, tolerance: float) -> list[Point]:
        """Narrow a bracket down until a point in it is good."""
        best, other = sorted(bracket, key=lambda point: point.value)
        stalled = False
        while self.refinements < self.most and abs(best.step - other.step) * size >= tolerance:
            low, high = sorted((best.step, other.step))
            step = cubic_minimum(best, other, low, high)
            # Close to an end twice in a row, or at it: a tenth inwards, for the bracket to shrink.
            margin = 0.1 * (high - low)
            close = min(high - step, step - low) < margin
            if close and (stalled or step >= high or step <= low):
                step = high - margin if abs(step - high) < abs(step - low) else low + margin
                close = False
            stalled = close
            point = self.evaluate(step)
            if self.too_high(point) or point.value >= best.value:
                best, other = sorted((best, point), key=lambda p: p.value)
                continue
            if self.flat(point):
                return [point]
            if point.slope * (other.step - best.step) >= 0:
                other = best
            best = point
        return [best]


def slope(gradient: Any, direction: Any) -> float:
    """The slope along a direction."""
    return float(np.dot(gradient, direction))
