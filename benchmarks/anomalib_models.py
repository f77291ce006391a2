"""`flowlib fit` beside anomalib's PatchCore, PaDiM and FastFlow, with one backbone and one set of images.

    python benchmarks/anomalib_models.py [FOLDER ...]

Writes anomalib_models.csv. Run in an environment that has flowlib and anomalib 2.7.0; solar cells always, and folders
laid out as MVTec AD. The backbone of all is that of `flowlib.detector.features`, cut at strides 8 and 16. Theirs see
images at 256x256 pixels and score them as anomalib does; PatchCore keeps 1 % of the positions (its paper's smallest
share), PaDiM 100 features, FastFlow trains for 20 epochs. Each row is computed in a process of its own, on one core.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from flowlib.detector import fitting
from flowlib.detector.features import NETWORK, default_network
from flowlib.detector.map_metrics import aupro, pixel_auroc
from flowlib.experiments import features
from flowlib.experiments.features import Case
from flowlib.metrics import auroc

SIDE, LAYERS = 256, (2, 3)  # pixels; of the backbone, at strides 8 and 16
CORESET, DIMENSIONS, EPOCHS, BATCH = 0.01, 100, 20, 32
Scored = tuple[float, np.ndarray]  # of an image: its score, and its map (h, w)
Model = Callable[[np.ndarray], Scored]


def batch_of(images: list[np.ndarray]) -> Tensor:
    """uint8 ``(C, h, w)`` each, to what the backbone takes, ``(N, 3, SIDE, SIDE)``."""
    shown = [
        Image.fromarray(one.mean(0).astype(np.uint8) if len(one) == 1 else one.transpose(1, 2, 0)) for one in images
    ]
    pixels = [np.asarray(one.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in shown]
    return (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() - 127) / 128


def with_our_weights(extractor: nn.Module) -> None:
    extractor.load_state_dict(default_network()[0].state_dict())


def by(model: nn.Module) -> Model:
    """An anomalib model that is fitted, as a function from an image to its score and map."""
    model.eval()

    def scored(image: np.ndarray) -> Scored:
        with torch.inference_mode():
            found = model(batch_of([image]))
        return float(found.pred_score), found.anomaly_map[0].squeeze().numpy()

    return scored


def fill(model: nn.Module, images: list[np.ndarray]) -> None:
    """Show a model that remembers its training images."""
    with_our_weights(model.feature_extractor.feature_extractor)
    model.train()
    model.feature_extractor.eval()
    for i in range(0, len(images), BATCH):
        model(batch_of(images[i : i + BATCH]))


def patchcore(images: list[np.ndarray]) -> Model:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(layers=LAYERS, backbone=NETWORK, pre_trained=False)
    fill(model, images)
    model.subsample_embedding(CORESET)
    return by(model)


def padim(images: list[np.ndarray]) -> Model:
    from anomalib.models.image.padim.torch_model import PadimModel

    model = PadimModel(backbone=NETWORK, layers=list(LAYERS), pre_trained=False, n_features=DIMENSIONS)
    fill(model, images)
    model.fit()
    return by(model)


def fastflow(images: list[np.ndarray]) -> Model:
    """FastFlow with our backbone in place of its own; features of the training images are computed once."""
    from anomalib.models.image.fastflow.loss import FastflowLoss
    from anomalib.models.image.fastflow.torch_model import FastflowModel, create_fast_flow_block

    model = FastflowModel((SIDE, SIDE), "resnet18", pre_trained=False)
    model.feature_extractor = default_network()[0].eval().requires_grad_(False)
    with torch.inference_mode():
        shown = [model.feature_extractor(batch_of(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    maps = [torch.cat(scale).clone() for scale in zip(*shown, strict=True)]
    sizes = [list(of_scale.shape[1:]) for of_scale in maps]
    model.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)
    model.fast_flow_blocks = nn.ModuleList(create_fast_flow_block(size, False, 1.0, 8) for size in sizes)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    descent, loss = torch.optim.Adam(learned, lr=1e-3, weight_decay=1e-5), FastflowLoss()
    for _ in range(EPOCHS):
        for some in torch.randperm(len(images)).split(BATCH):
            made = [
                block(norm(of_scale[some]))
                for block, norm, of_scale in zip(model.fast_flow_blocks, model.norms, maps, strict=True)
            ]
            descent.zero_grad()
            loss(*zip(*made, strict=True)).backward()
            descent.step()
    return by(model)


def ours(images: list[np.ndarray]) -> Model:
    with ThreadPoolExecutor(1) as here:  # so that its memory is this process's
        detector = fitting.fit(images, executor=here)
    return lambda image: (float(detector.score_samples([image])[0]), detector.map(image))


METHODS = {"flowlib fit": ours, "PatchCore": patchcore, "PaDiM": padim, "FastFlow": fastflow}


def compared(case: Case, method: str) -> dict[str, object]:
    """One row: image AUROC, pixel AUROC and AUPRO where there are masks, processor seconds of the fit and milliseconds
    an image, and the most memory that the process had, in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    default_network()
    began = time.process_time()
    scored = METHODS[method](list(case.normal))
    fit_seconds = time.process_time() - began
    begun = time.process_time()
    found = [scored(image) for image in case.test]
    milliseconds = 1000 * (time.process_time() - begun) / len(found)
    scores = np.array([score for score, _ in found])
    row: dict[str, object] = {"set": case.name, "method": method, "normal images": len(case.normal)}
    row["image AUROC"] = auroc(scores[~case.anomalous], scores[case.anomalous])
    if case.masks:
        maps = [values for _, values in found]
        masks = [features.at_shape(mask, values.shape) for mask, values in zip(case.masks, maps, strict=True)]
        row |= {"pixel AUROC": pixel_auroc(maps, masks), "AUPRO": aupro(maps, masks)}
    status = Path("/proc/self/status").read_text()  # not getrusage: that remembers the parent's peak
    megabytes = int(status.split("VmHWM:")[1].split()[0]) // 1024
    return row | {"fit, s": fit_seconds, "image, ms": milliseconds, "memory, MB": megabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    cases = [features.cells(), *map(features.folder, parser.parse_args().folders)]
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for case in cases:
            for method in METHODS:
                rows.append(alone.submit(compared, case, method).result())
                pd.DataFrame(rows).to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.3f")
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
