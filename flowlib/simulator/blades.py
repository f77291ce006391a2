"""Engine blades as a borescope sees them: the surface of a blade painted once, then lit and filmed frame by frame.

A blade is a flat canvas of layers (colour, tilt of the surface, gloss, coverage) from a seed; damage (flowlib.damage)
changes the layers. A frame looks at the canvas through a drifting camera with a light beside its lens. Clean and
damaged blade go through the same camera, light and noise, so that a mask is what the damage changes, and no drawing.
Lengths are in pixels of the picture, x to the right and y down from its centre, angles in radians.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_array

SCALE = 1.5  # canvas pixels a picture pixel
MARGIN = 56  # of the canvas around the picture, for the camera to drift
NOTICEABLE = 4.0  # grey levels: a pixel that the damage changes by so much belongs to the mask
REFLECTION, SHADOW = 1, 2  # labels of Frame.regions
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Edge(NamedTuple):
    x: float  # a point of the edge
    y: float
    outward: float  # direction of its outward normal
    bow: float  # curvature, 1 / pixels
    radius: float  # over which the surface rounds off


class Holes(NamedTuple):
    edge: int  # the row runs along this edge of the viewpoint
    depth: float  # at this distance inside of it
    pitch: float
    radius: float
    length: float  # across the row: a slot where it is longer than the radius


class Viewpoint(NamedTuple):
    width: int
    height: int
    edges: tuple[Edge, ...]
    holes: tuple[Holes, ...]
    brush: float  # direction of the machining marks
    camber: float  # how much the surface turns across the picture
    gloss: float


UP, RIGHT, LEFT = -np.pi / 2, 0.0, np.pi
VIEWPOINTS = {
    "leading_edge": Viewpoint(
        320, 256, (Edge(70, 0, RIGHT - 0.1, 1.0e-3, 52), Edge(0, -84, UP - 0.06, 3e-4, 5)), (), 1.45, 0.25, 1.0
    ),
    "pressure_side": Viewpoint(
        384,
        256,
        (Edge(146, 0, RIGHT + 0.08, 5e-4, 7), Edge(0, -86, UP + 0.05, 2e-4, 6)),
        (Holes(0, 96, 23, 2.6, 4.2), Holes(0, 226, 23, 2.6, 3.6)),
        0.12,
        -0.3,
        0.6,
    ),
    "trailing_edge": Viewpoint(
        256,
        256,
        (Edge(-50, 0, LEFT - 0.05, 7e-4, 5), Edge(0, -90, UP - 0.05, 3e-4, 5)),
        (Holes(0, 15, 17, 2.3, 6.5), Holes(0, 84, 25, 2.5, 3.2)),
        1.62,
        0.2,
        0.7,
    ),
    "tip": Viewpoint(
        320,
        320,
        (Edge(0, -44, UP + 0.12, 6e-4, 6), Edge(116, 60, RIGHT + 0.2, 1.2e-3, 22)),
        (Holes(0, 34, 38, 3.2, 3.2),),
        0.2,
        0.2,
        0.8,
    ),
}


class Surface(NamedTuple):
    """A blade's canvas, float32; h and w are `SCALE` times the picture's height and width with the margins."""

    colour: np.ndarray  # (3, h, w) share of the light that is scattered, RGB
    tilt: np.ndarray  # (2, h, w) x and y of the surface's normal
    gloss: np.ndarray  # (h, w) strength of the mirror-like part
    cover: np.ndarray  # (h, w) 1 on the blade, 0 beside it
    behind: np.ndarray  # (h, w) light from what lies behind the blade
    depth: np.ndarray  # (h, w) distance inside the blade's outline, negative outside
    x: np.ndarray  # (1, w)
    y: np.ndarray  # (h, 1)
    brush: float  # direction of the machining marks
    roughness: float  # width of a reflection across the marks, as a slope


def paint(viewpoint: str, rng: np.random.Generator) -> Surface:
    """A new blade without damage, as it stands in `viewpoint`; no two are alike."""
    view = VIEWPOINTS[viewpoint]
    h, w = (round((side + 2 * MARGIN) * SCALE) for side in (view.height, view.width))
    x = ((np.arange(w, dtype=np.float32) - (w - 1) / 2) / SCALE)[None]
    y = ((np.arange(h, dtype=np.float32) - (h - 1) / 2) / SCALE)[:, None]
    brush = view.brush + rng.normal(0, 0.06)
    edges = [shaken(edge, rng) for edge in view.edges]

    distances, tilt = [], np.zeros((2, h, w), dtype=np.float32)
    for edge in edges:
        distance = inside(edge, x, y, rng)
        lip = 0.8 * np.clip(1 - distance / edge.radius, 0, 1) ** 1.6
        tilt += np.array([np.cos(edge.outward), np.sin(edge.outward)], dtype=np.float32)[:, None, None] * lip
        distances.append(distance)
    depth = -2 * np.logaddexp.reduce([-distance / 2 for distance in distances])
    tilt[0] += view.camber * x / view.width + rng.normal(0, 0.05)
    tilt[1] += rng.normal(0, 0.08) + 0.1 * y / view.height

    polish, wear = rng.uniform(0.3, 1.2), rng.uniform(0.5, 1.5)  # how strong the machining marks are, and the deposits
    fine, coarse = brushed(rng, (h, w), brush, 0.9, 20), brushed(rng, (h, w), brush, 2.6, 60)
    waves = brushed(rng, (h, w), brush, 7, 90)
    grain, spots, patches = noise(rng, (h, w), 1.2), noise(rng, (h, w), 4), noise(rng, (h, w), 18)
    across = np.array([-np.sin(brush), np.cos(brush)], dtype=np.float32)[:, None, None]
    flat = 1 - np.abs(tilt).max(axis=0)  # the marks are weaker where the edge rounds off
    tilt += flat * across * (polish * (0.05 * fine + 0.06 * coarse) + rng.uniform(0.05, 0.16) * waves)
    tilt += 0.03 * np.stack(np.gradient(grain))[::-1] * wear

    soot = 0.5 * brushed(rng, (h, w), brush, 16, 70) + 0.6 * noise(rng, (h, w), 80) + rng.normal(0, 0.4)
    soot = np.clip(soot * (1 + 0.25 * spots), 0, 1.8)
    pits = np.clip(spots + 0.5 * grain - rng.uniform(2.4, 3.2), 0, 1)
    dirt = np.exp(-rng.uniform(0.25, 0.6) * soot - 0.7 * pits)
    pale = np.clip(0.6 * noise(rng, (h, w), 9) + 0.6 * patches - rng.uniform(1, 2), 0, 1) * wear  # ash and scale
    mottle = np.exp(wear * (0.045 * grain + 0.05 * spots + 0.07 * patches) + polish * (0.06 * fine + 0.06 * coarse))
    colour = tarnish(rng, (h, w)) * mottle * dirt
    colour += (0.25 + 0.1 * spots) * pale * (0.75 - colour)
    gloss = (
        view.gloss
        * rng.uniform(0.6, 1.4)
        * np.exp(0.4 * polish * coarse + 0.3 * patches)
        * dirt**1.5
        * (1 - 0.6 * pale)
    )
    surface = Surface(
        colour=colour.astype(np.float32),
        tilt=tilt,
        gloss=gloss.astype(np.float32),
        cover=np.clip(depth * SCALE + 0.5, 0, 1),
        behind=neighbour(edges[0], x, y, rng),
        depth=depth,
        x=x,
        y=y,
        brush=brush,
        roughness=rng.uniform(0.14, 0.24),
    )
    for row in view.holes:
        drill(surface, edges[row.edge], row, rng)
    return surface


def shaken(edge: Edge, rng: np.random.Generator) -> Edge:
    """The edge as it stands in one video: no blade is met at exactly the same place."""
    return edge._replace(
        x=edge.x + rng.normal(0, 7),
        y=edge.y + rng.normal(0, 7),
        outward=edge.outward + rng.normal(0, 0.04),
        bow=edge.bow * rng.uniform(0.6, 1.4),
        radius=edge.radius * rng.uniform(0.85, 1.15),
    )


def inside(edge: Edge, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance (h, w) inside of an edge, which is bowed and worn."""
    out, along = along_edge(edge, x, y)
    wear = 0.25 * noise(rng, (1, 1600), 5)[0] + 0.7 * noise(rng, (1, 1600), 40)[0]
    return -out - edge.bow * along**2 + np.interp(along, np.arange(-400, 400, 0.5), wear).astype(np.float32)


def along_edge(edge: Edge, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (h, w) outward of the edge's straight line, and along it."""
    cos, sin = np.float32(np.cos(edge.outward)), np.float32(np.sin(edge.outward))
    return (x - edge.x) * cos + (y - edge.y) * sin, (y - edge.y) * cos - (x - edge.x) * sin


def tarnish(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Base colour (3, h, w): grey metal with heat tints, straw to brown to blue, in broad patches."""
    heat = noise(rng, shape, 110) + 0.3 * noise(rng, shape, 35) + rng.normal(0, 0.6)
    warm = np.clip(0.5 + 0.35 * heat, 0, 1)
    cold = np.clip(-0.6 - heat, 0, 1)
    metal, brown, blue = (
        np.array(c)[:, None, None] for c in ((0.50, 0.49, 0.47), (0.43, 0.36, 0.29), (0.42, 0.46, 0.52))
    )
    return metal + warm * (brown - metal) + cold * (blue - metal)


def neighbour(edge: Edge, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light (h, w) from the next blade, out of focus some way beyond the edge; black shadow up to there."""
    out, along = along_edge(edge._replace(outward=edge.outward + rng.normal(0, 0.15)), x, y)
    beyond = out + 1.5 * edge.bow * along**2 - rng.uniform(20, 55)
    rounded = np.clip(beyond / rng.uniform(15, 50), 0, 1) ** 0.7
    marks = brushed(rng, out.shape, edge.outward + np.pi / 2 + rng.normal(0, 0.3), 5, 60)
    face = rounded * np.exp(0.08 * marks + 0.2 * noise(rng, out.shape, 30))
    return rng.uniform(0.06, 0.3) * face * np.exp(-np.clip(beyond, 0, None) / rng.uniform(50, 120))


def drill(surface: Surface, edge: Edge, row: Holes, rng: np.random.Generator) -> None:
    """Cooling holes along an edge, dark with a lit lip, and the soot that they blow over the surface; in place."""
    start, flow = rng.uniform(0, row.pitch), rng.choice([-1, 1])
    stain = rng.uniform(0, 0.7)
    out, along = along_edge(edge, surface.x, surface.y)
    across = out + row.depth + edge.bow * along**2
    for place in np.arange(-320 + start, 320, row.pitch):
        near = (np.abs(along - place) < 12) & (np.abs(across) < 60)
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if not len(rows):
            continue
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        u = across[window] - rng.normal(0, 0.5)
        v = along[window] - place - rng.normal(0, 0.5)
        radius = row.radius * rng.uniform(0.85, 1.15)
        ring = np.hypot(u / (row.length / row.radius), v) - radius  # distance outside of the hole
        hole = np.clip(0.5 - ring, 0, 1)
        lip = np.exp(-((ring - 1) ** 2) / 1.2)
        blown = np.exp(-((v / (2.2 + 0.05 * np.abs(u))) ** 2) - np.abs(u) / 22) * (flow * u > 0)
        cos, sin = np.cos(edge.outward), np.sin(edge.outward)
        slope = -0.4 * lip / np.maximum(np.hypot(u, v), 1)
        surface.tilt[0][window] += slope * (u * cos - v * sin)
        surface.tilt[1][window] += slope * (u * sin + v * cos)
        keep = (1 - 0.94 * hole) * (1 - stain * rng.uniform(0.5, 1) * blown)
        surface.colour[:, *window] *= keep
        surface.gloss[window] *= keep * (1 - 0.9 * hole)


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, along: float | None = None) -> np.ndarray:
    """A smooth random field (h, w), mean 0, variance 1, with features of `cell` canvas pixels (in x: `along`).

    Random values on a coarse grid, spread by a Gaussian in y and in x: two products with sparse matrices.
    """
    spread = []
    for length, size in zip(shape, (cell, along or cell), strict=True):
        place = np.arange(length)[:, None] / size
        nodes = place.astype(int) + np.arange(-3, 5)  # (length, 8)
        weights = np.exp(-((place - nodes) ** 2))
        weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
        parts = weights.astype(np.float32).ravel(), nodes.ravel() + 3, np.arange(0, weights.size + 1, 8)
        spread.append(csr_array(parts, shape=(length, int((length - 1) / size) + 8)))
    values = rng.standard_normal((spread[0].shape[1], spread[1].shape[1]), dtype=np.float32)
    return np.ascontiguousarray((spread[1] @ (spread[0] @ values).T).T)


def brushed(rng: np.random.Generator, shape: tuple[int, int], angle: float, width: float, length: float) -> np.ndarray:
    """`noise` (h, w) whose features are `length` long in the direction `angle`."""
    h, w = shape
    side = int(np.hypot(h, w)) + 2
    streaks = noise(rng, (side, side), width, length)
    rows = np.arange(h, dtype=np.float32)[:, None] - h / 2
    columns = np.arange(w, dtype=np.float32)[None] - w / 2
    along = columns * np.cos(angle) + rows * np.sin(angle) + side / 2
    across = rows * np.cos(angle) - columns * np.sin(angle) + side / 2
    return map_coordinates(streaks, np.stack([across, along]), order=1)
