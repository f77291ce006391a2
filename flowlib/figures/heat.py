"""Heat maps as pixels: one scale, the colours, and the map laid over its image."""

import numpy as np
from matplotlib import colormaps

GROUND = 24  # grey level around a picture
HEAT = (255 * colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)  # (256, 3), dark to light
CHANGE = (255 * colormaps["RdBu_r"](np.arange(256))[:, :3]).astype(np.uint8)


def shares(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where on the colour scale values lie, in [0, 1]; outside of the map NaN stays."""
    return np.clip((values - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1)


def heat(share: np.ndarray, colours: np.ndarray = HEAT) -> np.ndarray:
    """`shares` ``(H, W)`` in colours, ``(H, W, 3)``."""
    outside = np.isnan(share)
    out = colours[(255 * np.where(outside, 0, share)).astype(np.uint8)]
    out[outside] = GROUND
    return out


def overlay(image: np.ndarray, share: np.ndarray, opacity: float) -> np.ndarray:
    """A picture ``(H, W, 3)`` in grey levels under its map; below a quarter of the colour scale it is left as it is."""
    weight = np.clip((np.nan_to_num(share)[..., None] - 0.25) / 0.75, 0, 1) * np.float32(opacity)
    return np.rint(image + weight * (heat(share).astype(np.float32) - image)).astype(np.uint8)
