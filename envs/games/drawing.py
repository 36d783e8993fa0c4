"""How a race looks, and the keyboard: the only importer of pygame.

Everything is drawn at twice the size and shrunk: edges come out smooth.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.games.race import Controls, Race
from envs.games.sensors import BEAMS, RANGE
from envs.games.track import Track

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

__all__ = ["Keys", "Window"]

WIDTH, HEIGHT = 800, 600
FINE = 2
#: Pixels a metre, and where on the picture the car is (shares of width and height).
SCALE, CAR_AT = 11.0, (0.5, 0.7)
#: Points of the centre line that are drawn behind and ahead of the car.
BEHIND, AHEAD = 40, 80

GRASS, MOWN, TARMAC, WHITE, RED, SHADOW = (76, 132, 62), (83, 141, 68), (74, 76, 82), (238, 238, 236), (206, 52, 48), (48, 50, 54)
BODY, GLASS, TYRE, BEAM, RAY, PANEL, GREEN = (
    (24, 92, 190),
    (20, 28, 44),
    (18, 18, 20),
    (255, 208, 84),
    (128, 116, 84),
    (20, 24, 30, 190),
    (78, 190, 96),
)

Points = NDArray[np.float64]


class _View:
    """From metres to fine pixels, the car's nose up."""

    def __init__(self, race: Race) -> None:
        car = race.vehicle
        self._at = np.array([car.x, car.y])
        cosine, sine = math.cos(car.heading), math.sin(car.heading)
        # Ahead is up (smaller y), left is left.
        self._turn = np.array([[sine, -cosine], [-cosine, -sine]]) * SCALE * FINE
        self._middle = np.array([CAR_AT[0] * WIDTH, CAR_AT[1] * HEIGHT]) * FINE

    def __call__(self, points: Points) -> Points:
        return np.asarray((points - self._at) @ self._turn.T + self._middle)


class Window:
    """Draws races: into arrays, or where ``visible`` onto the screen at so many pictures a second."""

    def __init__(self, *, visible: bool, frames_per_second: float = 20) -> None:
        pygame.font.init()
        self._visible, self._rate = visible, frames_per_second
        self._fine = pygame.Surface((WIDTH * FINE, HEIGHT * FINE))
        self._picture = pygame.Surface((WIDTH, HEIGHT))
        self._large, self._small = pygame.font.Font(None, 46), pygame.font.Font(None, 20)
        self._screen: Any = None
        self._clock: Any = None
        if visible:
            pygame.display.init()
            self._screen = pygame.display.set_mode((WIDTH, HEIGHT))
            pygame.display.set_caption("rlcore: car")
            self._clock = pygame.time.Clock()

    def draw(self, race: Race, controls: Controls) -> NDArray[np.uint8] | None:
        """``[600, 800, 3]``; None where it went to the screen."""
        view = _View(race)
        _draw_grass(self._fine, view, race)
        _draw_road(self._fine, view, race)
        _draw_lidar(self._fine, view, race)
        _draw_car(self._fine, view, race)
        pygame.transform.smoothscale(self._fine, (WIDTH, HEIGHT), self._picture)
        self._draw_panel(race, controls)
        if self._screen is None:
            return np.frombuffer(bytearray(pygame.image.tobytes(self._picture, "RGB")), np.uint8).reshape(HEIGHT, WIDTH, 3)
        pygame.event.pump()
        self._screen.blit(self._picture, (0, 0))
        pygame.display.flip()
        self._clock.tick(self._rate)
        return None

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        if self._visible:
            pygame.display.quit()
            self._visible = False

    def _text(self, text: str, at: tuple[int, int], font: Any, colour: Any = WHITE) -> None:
        self._picture.blit(font.render(text, True, colour), at)

    def _draw_panel(self, race: Race, controls: Controls) -> None:
        panel = pygame.Surface((196, 128), pygame.SRCALPHA)
        pygame.draw.rect(panel, PANEL, panel.get_rect(), border_radius=10)
        self._picture.blit(panel, (14, 14))
        speed = f"{race.vehicle.forward * 3.6:.0f}"
        self._text(speed, (28, 24), self._large)
        self._text("km/h", (34 + self._large.size(speed)[0], 38), self._small)
        lap, along = divmod(race.progress, race.track.length)
        self._text(f"lap {int(lap)}   {along:.0f} of {race.track.length:.0f} m", (28, 62), self._small)
        for row, (colour, share) in enumerate(((GREEN, controls.throttle), (RED, controls.brake))):
            pygame.draw.rect(self._picture, SHADOW, (28, 84 + 16 * row, 168, 9), border_radius=4)
            pygame.draw.rect(self._picture, colour, (28, 84 + 16 * row, round(168 * share), 9), border_radius=4)
        pygame.draw.rect(self._picture, SHADOW, (28, 118, 168, 9), border_radius=4)
        pygame.draw.circle(self._picture, BEAM, (round(112 - 80 * controls.steering), 122), 7)
        self._draw_map(race)
        self._draw_camera(race)

    def _draw_map(self, race: Race) -> None:
        centre = race.track.centre
        low, size = centre.min(0), np.ptp(centre, axis=0)
        scale = 150 / size.max()
        panel = pygame.Surface((180, round(size[1] * scale) + 30), pygame.SRCALPHA)
        pygame.draw.rect(panel, PANEL, panel.get_rect(), border_radius=10)

        def place(points: Points) -> Points:
            return np.asarray((points - low) * (scale, -scale) + (90 - size[0] * scale / 2, size[1] * scale + 15))

        pygame.draw.lines(panel, WHITE, True, place(centre[::3]).tolist(), 4)
        x, y = place(np.array([race.vehicle.x, race.vehicle.y])).tolist()
        pygame.draw.circle(panel, RED, (round(x), round(y)), 6)
        self._picture.blit(panel, (WIDTH - 194, 14))

    def _draw_camera(self, race: Race) -> None:
        seen = pygame.surfarray.make_surface(race.camera().swapaxes(0, 1))
        frame = pygame.Rect(WIDTH - 190, HEIGHT - 146, 176, 132)
        pygame.draw.rect(self._picture, PANEL[:3], frame.inflate(8, 8), border_radius=6)
        self._picture.blit(pygame.transform.scale(seen, frame.size), frame)


class Keys:
    """The arrow keys as controls; steering turns and returns gradually, as a wheel does."""

    #: Full steering is reached, and left, in so many seconds.
    SECONDS = 0.35

    def __init__(self) -> None:
        self._steering = 0.0
        self.quit = False

    def read(self, dt: float) -> Controls:
        """What is pressed now, ``dt`` seconds after the last time; `quit` is True after Escape, or once the window is closed."""
        for event in pygame.event.get():
            escaped = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            self.quit = self.quit or escaped or event.type == pygame.QUIT
        pressed = pygame.key.get_pressed()
        wanted = float(pressed[pygame.K_LEFT]) - float(pressed[pygame.K_RIGHT])
        most = dt / self.SECONDS
        self._steering += min(max(wanted - self._steering, -most), most)
        return Controls(self._steering, float(pressed[pygame.K_UP]), float(pressed[pygame.K_DOWN]))


def _polygon(surface: Any, colour: Any, points: Points) -> None:
    pygame.draw.polygon(surface, colour, points.tolist())


def _draw_grass(surface: Any, view: _View, race: Race) -> None:
    """Mown in stripes of eight metres, so that one sees how fast it goes."""
    surface.fill(GRASS)
    car = race.vehicle
    reach = 90.0
    first = math.floor((car.x - reach) / 16) * 16
    for x in range(first, math.ceil(car.x + reach), 16):
        low, high = car.y - reach, car.y + reach
        _polygon(surface, MOWN, view(np.array([[x, low], [x + 8, low], [x + 8, high], [x, high]])))


def _draw_road(surface: Any, view: _View, race: Race) -> None:
    track = race.track
    count = len(track.centre)
    span = min(BEHIND + AHEAD, count)
    at = (race.place.index - BEHIND + np.arange(span + 1)) % count
    bend = np.abs(track.curvature[at]) > 1 / 45
    half = track.half_width
    offsets = [side * offset for side in (1, -1) for offset in (half + 1.1, half, half - 0.3, 0.1)]
    line = {offset: view(_edge(track, offset, at)) for offset in offsets}

    def strip(colour: Any, inner: float, outer: float, first: int, points: int) -> None:
        """Between two lines along the road."""
        piece = slice(first, first + points)
        _polygon(surface, colour, np.concatenate([line[inner][piece], line[outer][piece][::-1]]))

    for side in (1, -1):
        for i in range(0, span - 1, 2):
            if bend[i : i + 3].all():
                strip(RED if at[i] // 2 % 2 else WHITE, side * half, side * (half + 1.1), i, 3)
    for i in range(0, span, 6):
        strip(TARMAC, half, -half, i, 8)
        strip(WHITE, half, half - 0.3, i, 8)
        strip(WHITE, -half, -(half - 0.3), i, 8)
    for i in range(span):
        if at[i] % 8 < 3:
            strip(WHITE, 0.1, -0.1, i, 2)
    _draw_line(surface, view, track)


def _edge(track: Track, offset: float, at: NDArray[np.int64]) -> Points:
    return track.centre[at] + offset * track.left[at]


def _draw_line(surface: Any, view: _View, track: Track) -> None:
    """Start and finish, chequered."""
    start, along, left = track.centre[0], track.tangent[0], track.left[0]
    side = track.half_width / 5
    for row in range(2):
        for column in range(10):
            corner = start + (row - 1) * side * along + (column - 5) * side * left
            square = np.array([corner, corner + side * along, corner + side * along + side * left, corner + side * left])
            _polygon(surface, WHITE if (row + column) % 2 else TYRE, view(square))


def _draw_lidar(surface: Any, view: _View, race: Race) -> None:
    car = race.vehicle
    origin = np.array([car.x, car.y])
    angles = car.heading + np.linspace(np.pi / 2, -np.pi / 2, BEAMS)
    distance = race.lidar()
    ends = view(origin + distance[:, None] * np.column_stack([np.cos(angles), np.sin(angles)]))
    middle = view(origin).tolist()
    for end, far in zip(ends.tolist(), (distance >= RANGE).tolist(), strict=True):
        pygame.draw.line(surface, RAY, middle, end, 2)
        if not far:
            pygame.draw.circle(surface, BEAM, end, 8)


def _draw_car(surface: Any, view: _View, race: Race) -> None:
    car = race.vehicle
    turn = np.array([[math.cos(car.heading), -math.sin(car.heading)], [math.sin(car.heading), math.cos(car.heading)]])
    at = np.array([car.x, car.y])

    def part(corners: list[list[float]], by: tuple[float, float] = (0.0, 0.0), angle: float = 0.0) -> Points:
        own = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return view(at + (np.array(corners) @ own.T + by) @ turn.T)

    outline = [
        [2.1, 0.55], [1.85, 0.85], [0.6, 0.92], [-1.7, 0.92], [-2.05, 0.75],
        [-2.05, -0.75], [-1.7, -0.92], [0.6, -0.92], [1.85, -0.85], [2.1, -0.55],
    ]  # fmt: skip
    _polygon(surface, SHADOW, part(outline) + 5)
    wheel = [[0.36, 0.13], [-0.36, 0.13], [-0.36, -0.13], [0.36, -0.13]]
    for side in (1, -1):
        _polygon(surface, TYRE, part(wheel, (car.body.front, side * 0.88), car.wheel_angle))
        _polygon(surface, TYRE, part(wheel, (-car.body.rear, side * 0.88)))
    _polygon(surface, BODY, part(outline))
    _polygon(surface, GLASS, part([[0.85, 0.62], [0.3, 0.7], [0.3, -0.7], [0.85, -0.62]]))
    _polygon(surface, GLASS, part([[-1.1, 0.66], [-1.45, 0.58], [-1.45, -0.58], [-1.1, -0.66]]))
    for side in (1, -1):
        _polygon(surface, WHITE, part([[2.06, 0.6 * side], [1.9, 0.78 * side], [1.84, 0.5 * side], [2.02, 0.4 * side]]))
