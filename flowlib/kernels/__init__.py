"""A step of flow: in torch, and compiled."""
