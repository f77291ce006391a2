"""Normalizing flows for anomaly detection: Glow, autoencoders, data sets and scoring."""

from flowlib.autoencoders import ConvAutoencoder, FullyConnectedAutoencoder
from flowlib.glow import Glow

__all__ = ["ConvAutoencoder", "FullyConnectedAutoencoder", "Glow"]
