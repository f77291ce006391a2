"""Scores beyond likelihood: readings against the flow's own numbers, each score on what it must and must not see."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from flowlib import scoring
from flowlib.baselines import jpegls_size
from flowlib.experiments import beyond
from flowlib.figures.beyond import overview
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.scoring import SCORES, Readings, Score, read
from flowlib.training import Recipe, trained

RECIPE = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 8}, steps=40, batch_size=16)


def strokes(n: int, seed: int = 0, upright: bool = True, width: int = 3) -> np.ndarray:
    """Bright bars, up or across, at random places of black 12x12 images with a little texture, uint8."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 1, 12, 12), np.uint8)
    for image in images:
        start = rng.integers(3, 7)
        image[0, 2:10, start : start + width] = rng.integers(150, 250, (8, width))
        if not upright:
            image[0] = image[0].T
    return images


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> Glow:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWLIB_DATA", str(tmp_path_factory.mktemp("data")))
        return trained(strokes(200), RECIPE)


@pytest.fixture(scope="module")
def normal(flow: Glow) -> Readings:
    return read(flow, strokes(150))


def test_readings_are_the_flows_own_numbers(flow):
    images = strokes(5, 1)
    readings = read(flow, images)
    with torch.no_grad():
        expected = -flow.log_prob(torch.from_numpy(images)).numpy()
        latents = flow.encode(torch.from_numpy(images))
    np.testing.assert_allclose(readings.nll(), expected, rtol=1e-5)
    assert list(readings.terms) == ["preprocessing 0", "determinant 1", "prior 1", "determinant 2", "prior 2"]
    for found, level in zip(readings.latents, latents, strict=True):
        np.testing.assert_allclose(found, level.numpy(), atol=1e-4)


def test_gradient_is_that_of_the_logit(flow):
    """Against a finite difference in float64: one step of one pixel's logit."""
    exact = Glow((1, 12, 12), **RECIPE.options).double()
    exact.load_state_dict({name: value.double() for name, value in flow.state_dict().items()})
    image = strokes(1, 2)
    gradient = read(flow, image).gradient[0, 0]
    y = 1e-6 + (1 - 2e-6) * (image[0, 0].astype(float) + 0.5) / 256
    for place in ((5, 5), (0, 0), (3, 8)):
        values = []
        for step in (-1e-4, 1e-4):
            moved = np.log(y / (1 - y))
            moved[place] += step
            x = (256 * ((1 / (1 + np.exp(-moved))) - 1e-6) / (1 - 2e-6) - 0.5) / 255
            with torch.no_grad():
                terms = exact.position_terms(torch.from_numpy(x[None, None]))
                values.append(sum(float(term.sum()) for level, _, term in terms if level))
        assert gradient[place] == pytest.approx((values[1] - values[0]) / 2e-4, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", SCORES)
def test_scores_depend_on_the_image_alone(name, flow):
    """The same numbers twice, in another order, and alone."""
    images = np.concatenate([strokes(140, 3), strokes(10, 4, upright=False)])
    score = Score(SCORES[name]).fit(flow, strokes(100))
    scores = score.score_samples(images)
    assert scores.shape == (150,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, score.score_samples(images))
    assert np.array_equal(scores, Score(SCORES[name]).fit(flow, strokes(100)).score_samples(images))
    order = np.random.default_rng(0).permutation(150)
    np.testing.assert_allclose(score.score_samples(images[order]), scores[order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score.score_samples(images[145:146]), scores[145:146], rtol=1e-4, atol=1e-4)


def test_likelihood_and_its_corrections(flow, normal):
    some = read(flow, strokes(6, 5))
    assert np.array_equal(scoring.likelihood(normal)(some), some.nll())
    bits = 8 * np.log(2) * jpegls_size(some.images)
    np.testing.assert_allclose(scoring.complexity_corrected(normal)(some), some.nll() - bits)
    excess = some.nll() - normal.nll().mean()
    np.testing.assert_allclose(scoring.typicality(normal)(some), abs(excess))
    np.testing.assert_allclose(scoring.typicality(normal, two_sided=False)(some), excess)
    np.testing.assert_allclose(scoring.last_level(normal)(some), -some.terms["prior 2"].sum((1, 2)), rtol=1e-5)


def test_groups_are_compared_by_their_mean():
    nll, normal = np.array([1.0, 3, 10, 20, 7]), np.array([4.0, 6])
    assert scoring.of_groups(nll, normal, 2).tolist() == [3, 10]
    assert scoring.of_groups(nll, normal, 2, two_sided=False).tolist() == [-3, 10]
    assert scoring.of_groups(nll, normal, 1).tolist() == [4, 2, 5, 15, 2]
    with pytest.raises(ValueError, match="size is 6"):
        scoring.of_groups(nll, normal, 6)


def test_one_sided_scores_miss_what_is_too_simple_and_others_do_not(flow, normal):
    """Black images are the likeliest of all: what the notebook is about, in small."""
    usual, black = read(flow, strokes(60, 6)), read(flow, np.zeros((20, 1, 12, 12), np.uint8))

    def found(name: str) -> float:
        function = SCORES[name](normal)
        return auroc(function(usual), function(black))

    assert found("likelihood") < 0.1
    for name in ("typicality", "DoSE", "Mahalanobis, sums", "neighbours", "union", "sum"):
        assert found(name) > 0.9, name


def test_neighbours_know_directions_and_not_brightness(flow, normal):
    usual = strokes(60, 7)
    dimmed, turned = usual // 2, strokes(60, 7, upright=False)
    of_edges = scoring.nearest(scoring.rooted(scoring.edges(normal.images)))
    here, dim, across = (of_edges(scoring.rooted(scoring.edges(images))) for images in (usual, dimmed, turned))
    np.testing.assert_allclose(dim, here, atol=0.03)
    assert auroc(here, across) > 0.99
    function = scoring.neighbours(normal)
    assert auroc(function(read(flow, usual)), function(read(flow, turned))) > 0.99


def test_descriptions_have_unit_length_or_none():
    described = scoring.rooted(scoring.edges(np.concatenate([strokes(3), np.full((1, 1, 12, 12), 9, np.uint8)])))
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), [1, 1, 1, 0])
    assert described.shape == (4, 8 * 6 * 6)


def test_nearest_is_the_fifth_neighbour():
    reference = np.arange(10.0)[:, None]
    assert scoring.nearest(reference)(np.array([[0.0], [20]])).tolist() == [4, 15]
    with pytest.raises(ValueError, match="5 normal images are needed at least, there are 4"):
        scoring.nearest(reference[:4])


def test_joined_parts_are_in_their_own_deviations(flow, normal):
    def part(factor: float, column: int):
        return lambda readings: lambda other: factor * np.exp(other.images[:, 0, 0, column] / 10.0)

    images = np.zeros((50, 1, 12, 12), np.uint8)
    images[:, 0, 0, :2] = np.random.default_rng(0).integers(50, 100, (50, 2))
    readings = Readings(images, {}, [], np.zeros((50, 1, 12, 12), np.float32))
    held = images[4::5, 0, 0, :2].astype(float)
    parts = (part(3.0, 0), part(100.0, 1))
    expected = (images[:, 0, 0, :2] - held.mean(0)) / held.std(0)
    np.testing.assert_allclose(scoring.joined(readings, np.max, parts)(readings), expected.max(1), atol=1e-9)
    np.testing.assert_allclose(scoring.joined(readings, np.mean, parts)(readings), expected.mean(1), atol=1e-9)
    with pytest.raises(ValueError, match="10 normal images"):
        scoring.joined(readings.subset(np.arange(9)))


def test_mahalanobis_leaves_out_what_does_not_vary(flow, normal):
    def features(readings: Readings) -> np.ndarray:
        return np.stack([readings.nll(), np.full(len(readings.images), 3.0)], axis=1)

    distance = scoring.mahalanobis(normal, features)(normal)
    expected = np.square((normal.nll() - normal.nll().mean()) / normal.nll().std())
    np.testing.assert_allclose(distance, expected, rtol=1e-6)


def test_ratios_learn_from_normal_images_alone(flow, normal):
    usual = strokes(60, 8)
    noisy = usual.copy()
    noisy[:, 0, 4:7, 4:7] = np.random.default_rng(0).integers(0, 256, (60, 3, 3))
    for function in (
        scoring.likelihood_ratio(normal, RECIPE, 0.2),
        beyond.local_ratio(normal, steps=60),
    ):
        of_usual, of_noisy = function(read(flow, usual)), function(read(flow, noisy))
        assert of_usual.shape == (60,)
        assert auroc(of_usual, of_noisy) > 0.6
        np.testing.assert_allclose(function(read(flow, usual[:3])), of_usual[:3], rtol=1e-4, atol=1e-3)
    shares = scoring.likelihood_ratio(normal, RECIPE, 0.2)(normal) - normal.nll()
    assert shares.mean() < -normal.nll().mean()  # the background flow finds normal images less likely
    with pytest.raises(ValueError, match="share is 0"):
        scoring.likelihood_ratio(normal, RECIPE, 0)
    with pytest.raises(ValueError, match="must be Glow"):
        scoring.likelihood_ratio(normal, Recipe("FullyConnectedAutoencoder", {}, steps=1))


def test_read_refuses_what_it_cannot_read(flow):
    with pytest.raises(ValueError, match="no images"):
        read(flow, np.zeros((0, 1, 12, 12), np.uint8))
    with pytest.raises(ValueError, match="must be uint8"):
        read(flow, np.zeros((2, 1, 12, 12), np.float32))
    with pytest.raises(ValueError, match="fit it on a flow"):
        Score(scoring.likelihood).score_samples(strokes(2))
    broken = Glow((1, 12, 12), **RECIPE.options)
    with torch.no_grad():
        broken.levels[0].actnorm_bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        read(broken, strokes(2))


def test_made_up_images_are_none_of_the_tests():
    images = strokes(40, 9)
    before = images.copy()
    made_up = beyond.made_up_images(images)
    assert np.array_equal(images, before)
    for name, changed in made_up.items():
        assert changed.shape == images.shape, name
        assert changed.dtype == np.uint8
        assert (changed != images).any((1, 2, 3)).mean() > 0.5, name
        for flipped in (images[:, :, ::-1], images[..., ::-1]):
            assert (changed != flipped).any((1, 2, 3)).mean() > 0.9, name
    assert all(np.array_equal(made_up[name], again) for name, again in beyond.made_up_images(images).items())
    other = beyond.outliers(images, 20)
    assert (np.ptp(other["constant"], axis=(1, 2, 3)) == 0).all()
    assert len(np.unique(other["constant"])) == 20
    assert other["uniform noise"].std() == pytest.approx(73.9, abs=2)


def test_jobs_score_every_test_and_the_choice_ranks_them():
    images = strokes(120, 10)
    tests = {"held": strokes(40, 11), "turned": strokes(40, 12, upright=False)}
    result = beyond.scored(images, RECIPE, images[:60], tests, ratio_steps=3)
    assert {name.split("/")[0] for name in result} == {*SCORES, "likelihood ratio", "local ratio"}
    direct = Score(SCORES["neighbours"]).fit(trained(images, RECIPE), images[:60])
    np.testing.assert_allclose(result["neighbours/turned"], direct.score_samples(tests["turned"]))
    pixels = beyond.pixel_scored(images[:60], tests)
    assert all(scores.shape == (40,) for scores in pixels.values())
    table = beyond.choice_table([result, result], ["turned"])
    assert table["mean"].is_monotonic_decreasing
    expected = auroc(result["neighbours/held"], result["neighbours/turned"])
    assert table.loc["neighbours", "turned"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="must be Glow"):
        beyond.scored(images, Recipe("FullyConnectedAutoencoder", {}, steps=1), images[:60], tests)


def test_overview_prints_what_was_reached():
    values = pd.DataFrame({"a": [0.9496, 0.9504], "b": [0.2, np.nan]}, index=["likelihood", "union"])
    figure = overview(values, {"a": 0.95}, 1)
    texts = [(text.get_text(), text.get_weight()) for text in figure.axes[0].texts]
    reached = [(".949", "normal"), (".200", "normal"), (".950", "bold")]  # not rounded up to the target
    assert texts == [*reached, (".950", "normal")]  # the last is the target itself
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["likelihood", "union", "target"]
    plt.close(figure)
