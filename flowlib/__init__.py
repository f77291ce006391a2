"""Normalizing flows for anomaly detection: Glow, autoencoders, data sets and scoring."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.autoencoders import ConvAutoencoder, FullyConnectedAutoencoder
    from flowlib.glow import Glow

__all__ = ["ConvAutoencoder", "FullyConnectedAutoencoder", "Glow"]


def __getattr__(name: str) -> Any:
    """The models, imported when they are asked for: what needs no model does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'flowlib' has no attribute {name!r}")
    return getattr(import_module("flowlib.glow" if name == "Glow" else "flowlib.autoencoders"), name)
