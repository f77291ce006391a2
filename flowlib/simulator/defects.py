"""Damage of engine blades, painted on a surface (`flowlib.simulator.blades`): functions that return a changed copy.

Nothing here draws a mask or a grey level. A defect changes the metal: its colour, the tilt of its surface, its gloss,
or whether there is any. What that looks like is up to the light, and the mask is what it changes in the picture.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import map_coordinates, uniform_filter
from scipy.special import expit

from flowlib.simulator.blades import SCALE, Surface, noise

VIEW = 0.4  # defects are placed within this share of the picture's width and height from its centre
Size = tuple[float, float]  # (width, height) of the picture


def scratch(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """One to a few nearly parallel lines where something hard slid along: bright bare metal, shallow."""
    length = log_uniform(rng, 3, 0.8 * min(size))
    lines, angle = int(rng.integers(1, 5)), surface.brush + rng.uniform(0.3, np.pi - 0.3)
    x, y = on_blade(surface, size, rng)
    for _ in range(lines):
        start = np.array([x, y]) + rng.normal(0, 0.05 * length + (1.5 if lines > 1 else 0), 2)
        path = walk(start, angle + rng.normal(0, 0.05), length * rng.uniform(0.5, 1), 0.01, rng)
        width = rng.uniform(0.5, 1.1)
        surface = groove(surface, path, width, rng.uniform(0.2, 0.6), rng.uniform(1.15, 1.7), rng)
    return surface


def crack(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """A thin jagged dark line, from the edge or within the face, with branches when it is long."""
    length = log_uniform(rng, 5, 0.6 * min(size))
    if rng.random() < 0.5:
        x, y, outward = on_edge(surface, size, rng)
        angle = outward + np.pi + rng.normal(0, 0.35)
    else:
        (x, y), angle = on_blade(surface, size, rng), rng.uniform(0, 2 * np.pi)
    path = walk(np.array([x, y]), angle, length, 0.25, rng)
    width = 0.45 + 0.004 * length + rng.uniform(0, 0.3)
    surface = groove(surface, path, width, 0.5, rng.uniform(0.1, 0.35), rng)
    for _ in range(rng.poisson(length / 70)):
        start = int(rng.integers(len(path)))
        branch = walk(
            path[start], angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1), length * rng.uniform(0.15, 0.4), 0.25, rng
        )
        surface = groove(surface, branch, 0.7 * width, 0.4, 0.3, rng)
    return surface


def dent(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """A hollow that a blunt body left; only the light on its walls shows it, and some scuffed metal."""
    radius = log_uniform(rng, 1.5, 0.16 * min(size))
    x, y = on_blade(surface, size, rng)
    u, v = turned(surface, x, y, rng.uniform(0, np.pi))
    blob = 1 + 0.15 * noise(rng, surface.depth.shape, SCALE * radius)
    hollow = np.exp(-((np.hypot(u / radius, v / (radius * rng.uniform(0.5, 1))) / blob) ** 2))
    scuff = np.clip(hollow * (1 + 0.4 * noise(rng, hollow.shape, 2)) - 0.5, 0, 1)
    return surface._replace(
        tilt=surface.tilt + sloped(-hollow, rng.uniform(0.35, 0.75)),
        colour=surface.colour * (1 + rng.uniform(-0.3, 0.5) * scuff),
    )


def burn(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """Overheated metal: a dark, dull, flaking patch in a straw or blue halo, with pale ash."""
    radius = log_uniform(rng, 3, 0.22 * min(size))
    x, y = on_blade(surface, size, rng)
    u, v = turned(surface, x, y, surface.brush)
    shape = surface.depth.shape
    ragged = 0.25 * noise(rng, shape, SCALE * radius * 0.6) + 0.12 * noise(rng, shape, SCALE * max(radius * 0.15, 1.5))
    reach = 1 + ragged - np.hypot(u / (1.5 * radius), v / radius)  # above 0 in the burn, below 0 around it
    core = expit(9 * reach)
    halo = np.exp(-((np.minimum(reach, 0) / 0.3) ** 2)) * (1 - core)
    flakes = np.clip(noise(rng, shape, 2.2), -1, 2.5)
    ash = core * np.clip(noise(rng, shape, SCALE * max(radius * 0.3, 1.5)) - rng.uniform(0.2, 1.5), 0, 1)
    char = np.array([0.32, 0.25, 0.2])[:, None, None] * rng.uniform(0.6, 1.7) * (1 + 0.25 * flakes)
    tint = np.array([[0.95, 0.8, 0.55], [0.72, 0.78, 0.98]][rng.integers(2)])[:, None, None]
    colour = surface.colour * (1 - core + core * char) * (1 - 0.5 * halo * (1 - tint))
    return surface._replace(
        colour=colour + ash * (0.55 - colour) * 0.7,
        gloss=surface.gloss * (1 - 0.9 * core) * (1 - 0.3 * halo),
        tilt=surface.tilt + core * sloped(flakes, 0.25),
    )


def nick(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """A small notch in an edge, its rim bright and bent; what lies behind shows through."""
    depth = log_uniform(rng, 1.5, 0.1 * min(size))
    x, y, outward = on_edge(surface, size, rng)
    v, u = turned(surface, x, y, outward)
    width, power = depth * rng.uniform(0.5, 1.3), rng.uniform(1, 2.5)
    ragged = 0.1 * depth * noise(rng, v.shape, SCALE * depth * 0.4)
    missing = depth * (1 - np.abs(u / width) ** power) + v + ragged
    return torn(surface, np.where(np.abs(u) < 3 * width, missing, -99.0), 0.9 + 0.08 * depth, rng)


def missing_piece(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """A piece broken out of an edge or corner: a ragged grainy fracture, and behind it black shadow."""
    radius = log_uniform(rng, 8, 0.3 * min(size))
    x, y, outward = on_edge(surface, size, rng)
    v, u = turned(surface, x, y, outward + rng.normal(0, 0.3))
    shape = v.shape
    ragged = 0.22 * noise(rng, shape, SCALE * radius * 0.7) + 0.07 * noise(rng, shape, SCALE * max(radius * 0.15, 1.5))
    reach = radius * (1 + ragged - np.hypot(u / rng.uniform(0.7, 1.5), v) / radius)
    return torn(surface, reach, 1.2 + 0.03 * radius, rng)


def tip_curl(surface: Surface, size: Size, rng: np.random.Generator) -> Surface:
    """A corner or a stretch of the edge bent towards or away from the camera, as over a cylinder."""
    length = log_uniform(rng, 16, 0.4 * min(size))
    x, y, outward = on_edge(surface, size, rng, corner=rng.random() < 0.6)
    outward += rng.normal(0, 0.35)
    v, u = turned(surface, x, y, outward)
    direction = np.array([np.cos(outward), np.sin(outward)])
    angle = rng.uniform(0.7, 1.25)  # of the free end
    bend = length / angle  # radius of the cylinder
    past = v + length - (u**2) * rng.uniform(0.3, 0.8) / length  # how far beyond the fold
    turn = np.clip(past / bend, 0, np.sin(angle + 0.15))  # sine of the surface's angle there
    stretch = np.where(past > 0, bend * np.arcsin(turn) - past, 0)  # the metal seen here lies so much further out
    rows = (surface.y + stretch * direction[1]) * SCALE + (len(surface.y) - 1) / 2
    columns = (surface.x + stretch * direction[0]) * SCALE + (surface.x.size - 1) / 2
    place = np.stack([rows, columns])

    def moved(layer: np.ndarray) -> np.ndarray:
        return map_coordinates(layer, place, order=1, mode="nearest")

    depth = moved(surface.depth)
    side = rng.choice([-1.0, 1.0])
    return surface._replace(
        colour=np.stack([moved(layer) for layer in surface.colour]),
        tilt=np.stack([moved(layer) for layer in surface.tilt]) + side * 0.9 * turn * direction[:, None, None],
        gloss=moved(surface.gloss),
        cover=np.minimum(moved(surface.cover), np.clip(0.5 + (bend * np.sin(angle + 0.15) - past) * SCALE, 0, 1)),
        depth=depth,
    )


DEFECTS: dict[str, Callable[[Surface, Size, np.random.Generator], Surface]] = {
    "scratch": scratch,
    "dent": dent,
    "nick": nick,
    "crack": crack,
    "burn": burn,
    "tip_curl": tip_curl,
    "missing_piece": missing_piece,
}


def groove(
    surface: Surface, path: np.ndarray, width: float, slope: float, colour: float, rng: np.random.Generator
) -> Surface:
    """A furrow along a path (n, 2) of points, deepest in its middle, tapering to its ends, with its metal's colour."""
    rows, columns = (
        np.searchsorted(axis.ravel(), [points.min() - 5, points.max() + 5])
        for axis, points in ((surface.y, path[:, 1]), (surface.x, path[:, 0]))
    )
    window = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    x, y = surface.x[:, window[1]], surface.y[window[0]]
    profile = np.zeros((y.size, x.size), dtype=np.float32)
    taper = np.sqrt(np.clip(np.minimum(np.linspace(0.25, 4, len(path)), np.linspace(4, 0.25, len(path))), 0, 1))
    for a, b, thickness in zip(path[:-1], path[1:], width * taper[:-1], strict=True):
        step = b - a
        t = np.clip(((x - a[0]) * step[0] + (y - a[1]) * step[1]) / max(step @ step, 1e-9), 0, 1)
        distance = np.hypot(x - a[0] - t * step[0], y - a[1] - t * step[1])
        np.maximum(profile, np.exp(-((distance / thickness) ** 2)) * min(thickness / width, 1), out=profile)
    profile *= np.clip(1 + 0.3 * noise(rng, profile.shape, 5), 0, 1)
    changed = surface._replace(colour=surface.colour.copy(), tilt=surface.tilt.copy(), gloss=surface.gloss.copy())
    changed.colour[:, *window] *= 1 + (colour - 1) * profile
    changed.tilt[:, *window] += sloped(-profile, slope)
    changed.gloss[window] *= 1 + (min(colour, 1.3) - 1) * profile
    return changed


def torn(surface: Surface, missing: np.ndarray, rim: float, rng: np.random.Generator) -> Surface:
    """Metal gone where `missing` (h, w; pixels) is above 0; within `rim` pixels of it a bent, grainy, bright border."""
    border = np.exp(-((np.clip(-missing, 0, None) / rim) ** 2)) * (missing > -6 * rim)
    grain = np.clip(1 + 0.35 * noise(rng, missing.shape, 2), 0.3, 2)
    return surface._replace(
        cover=surface.cover * np.clip(0.5 - missing * SCALE, 0, 1),
        depth=np.minimum(surface.depth, -missing),
        colour=surface.colour * (1 + border * (rng.uniform(0.9, 1.6) * grain - 1)),
        tilt=surface.tilt + sloped(-border, rng.uniform(0.2, 0.7)),
    )


def sloped(height: np.ndarray, steepest: float) -> np.ndarray:
    """Tilt (2, h, w) of a relief whose steepest place gets the tilt `steepest`."""
    down, right = np.gradient(height)
    slope = -np.stack([right, down])
    return slope * (steepest / max(np.abs(slope).max(), 1e-9))


def walk(start: np.ndarray, angle: float, length: float, unsteadiness: float, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 2) of a path that begins at `start` and keeps roughly to its direction."""
    step = max(length / 40, 1.5)
    turns = angle + rng.normal(0, 1.8 * unsteadiness, max(int(length / step), 2))
    turns += np.cumsum(rng.normal(0, 0.5 * unsteadiness, len(turns)))
    return start + np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)


def turned(surface: Surface, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (h, w) from the point (x, y): along `angle`, and across it."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (surface.x - x) * cos + (surface.y - y) * sin, (surface.y - y) * cos - (surface.x - x) * sin


def on_blade(surface: Surface, size: Size, rng: np.random.Generator) -> tuple[float, float]:
    """A random point of the blade's face in the middle of the picture."""
    return random_point(surface, surface.depth > 4, size, rng)


def on_edge(surface: Surface, size: Size, rng: np.random.Generator, corner: bool = False) -> tuple[float, float, float]:
    """A random point of the blade's edge in the middle of the picture (or its corner there), and the way outward."""
    edge = np.abs(surface.depth) < 1
    if corner:  # where the least metal is around
        around = uniform_filter(surface.cover, 60)
        edge &= around < 1.1 * around[edge & middle(surface, size)].min()
    x, y = random_point(surface, edge, size, rng)
    direction = outward_vector(surface, x, y)
    return x, y, float(np.arctan2(direction[1], direction[0]))


def random_point(surface: Surface, where: np.ndarray, size: Size, rng: np.random.Generator) -> tuple[float, float]:
    rows, columns = np.nonzero(where & middle(surface, size))
    place = rng.integers(len(rows))
    return float(surface.x[0, columns[place]]), float(surface.y[rows[place], 0])


def middle(surface: Surface, size: Size) -> np.ndarray:
    return (np.abs(surface.x) < VIEW * size[0]) & (np.abs(surface.y) < VIEW * size[1])


def outward_vector(surface: Surface, x: float, y: float) -> np.ndarray:
    """Unit vector (2,) that points out of the blade at (x, y)."""
    row, column = np.searchsorted(surface.y.ravel(), y), np.searchsorted(surface.x.ravel(), x)
    near = surface.depth[row - 6 : row + 7, column - 6 : column + 7]
    down, right = np.gradient(near)
    vector = -np.array([right.mean(), down.mean()])
    return vector / max(np.hypot(*vector), 1e-9)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
