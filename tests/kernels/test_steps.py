"""The compiled steps of flow against those in torch, and what happens where they cannot be compiled."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowlib import Glow
from flowlib.kernels import steps
from flowlib.kernels.steps import forward_steps, inverse_steps
from flowlib.runtime import compiled
from flowlib.runtime.paths import PACKAGE

BOUND = 0.7
needs_compiler = pytest.mark.skipif(compiled.library("kernels/steps.cpp") is None, reason="no C++ compiler")


def some(N: int, H: int, W: int, C: int, hidden: int, middle: int, K: int) -> list[Tensor]:
    """An input and parameters of one size, such that no layer grows or vanishes; log-scales near their bound."""
    generator = torch.Generator().manual_seed(N + H + W + hidden)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    Ca = C // 2
    A = torch.linalg.qr(random(K, C, C))[0].contiguous() * 1.1
    w_in, w_middle = random(K, hidden, 9 * (C - Ca) + 1), random(middle, K, hidden, hidden + 1)
    return [random(C, N, H, W), A, random(K, C), w_in, w_middle, 0.5 * random(K, 18 * Ca, hidden), random(K, 2 * Ca)]


def everything(x: Tensor, A: Tensor, *rest: Tensor) -> list[Tensor]:
    """Output and log-determinant with and without gradients, the inverse, and the gradients of all arguments."""
    arguments = [t.detach().requires_grad_() for t in (x, A, *rest)]
    with torch.enable_grad():
        y, logdet = forward_steps(arguments[0], BOUND, *arguments[1:])
        # no gradient is uniform
        weighted = (1 + 0.5 * torch.sin(torch.arange(y.numel())).to(y).view_as(y)) * y
        of_logdet = (1 + 0.5 * torch.cos(torch.arange(logdet.numel())).to(y).view_as(logdet)) * logdet
        gradients = torch.autograd.grad(
            weighted.sum() + of_logdet.sum(), arguments, allow_unused=True, materialize_grads=True
        )
    with torch.inference_mode():
        alone = forward_steps(x, BOUND, A, *rest)
        back = inverse_steps(y.detach(), BOUND, torch.linalg.inv(A), *rest)
    return [y.detach(), logdet.detach(), *alone, back, *gradients]


def in_double(*arguments: Tensor) -> list[Tensor]:
    """What torch finds: doubles are never for the library."""
    return [t.float() for t in everything(*(a.double() for a in arguments))]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    """To rounding of the largest number of each."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        largest = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=5e-6 * largest + 1e-7)


SIZES = [
    (3, 8, 8, 4, 16, 0, 3),
    (2, 16, 16, 4, 128, 1, 4),  # a panel ends within an image
    (5, 7, 7, 8, 20, 1, 2),  # panels of several images, a width of no whole vectors, rows shared by threads
    (1, 40, 32, 4, 32, 1, 3),  # one image for several threads
    (7, 5, 9, 5, 13, 2, 3),  # odd channels
    (2, 6, 1, 12, 9, 0, 2),  # one column, wider than the hidden layer
    (1, 1, 1, 2, 1, 1, 1),
    (3, 3, 130, 3, 300, 1, 2),  # a row longer than a panel
    (24, 8, 8, 4, 8, 1, 2),  # whole images for each of three threads
]


@needs_compiler
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_compiled_and_torch_agree(size, number, threads):
    arguments = some(*size)
    threads(number)
    assert_alike(everything(*arguments), in_double(*arguments))


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(st.tuples(*(st.integers(1, n) for n in (4, 12, 12)), *map(st.integers, (2, 1, 0, 1), (9, 40, 2, 3))))
def test_compiled_and_torch_agree_at_any_size(size):
    arguments = some(*size)
    assert_alike(everything(*arguments), in_double(*arguments))


@needs_compiler
@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.2, 0.5, 1.0, 10.0, 1e3, 1e30, math.inf])
def test_log_scale_from_nothing_to_its_bound(size):
    """tanh and exp are the library's own: of networks that give their bias, of either sign, and of one alone."""
    x, *parameters, w_out, b_out = some(1, 4, 4, 4, 3, 0, 1)
    for biases in ((size, -size), (size, 0.0)):
        b_out[0, :2] = torch.tensor(biases)
        y, logdet = forward_steps(x, BOUND, *parameters, 0 * w_out, b_out)
        doubles = [t.double() for t in (x, *parameters, 0 * w_out, b_out)]
        y_expected, logdet_expected = forward_steps(doubles[0], BOUND, *doubles[1:])
        torch.testing.assert_close(y.double(), y_expected, rtol=2e-6, atol=1e-6)
        torch.testing.assert_close(logdet.double(), logdet_expected, rtol=4e-7, atol=1e-7 * (biases[1] != 0))


@needs_compiler
def test_nothing_is_written_beside_the_result():
    """Memory around inputs and outputs stays as it was; views are read as what they show."""
    x, *parameters = some(3, 5, 6, 4, 12, 1, 2)
    around = torch.full((8, 3, 5, 6), 7.0)
    around[2:6] = x
    strided = torch.full((4, 3, 6, 5), 7.0).transpose(2, 3).copy_(x)
    expected = in_double(x, *parameters)
    for view in (around[2:6], strided):
        assert_alike(everything(view, *(p.mT.contiguous().mT for p in parameters)), expected)
    assert (around[[0, 1, 6, 7]] == 7).all()
    torch.testing.assert_close(around[2:6], x, rtol=0, atol=0)


@needs_compiler
@pytest.mark.parametrize("where", range(7), ids=["input", "A", "c", "first", "middle", "last", "bias"])
def test_a_nan_is_not_lost(where):
    """A ReLU that turned NaN into zero would hide it from the check of the loss."""
    arguments = some(2, 4, 4, 4, 8, 1, 2)
    arguments[where].view(-1)[0] = torch.nan
    y, logdet, *_, grad_x, grad_A, grad_c, grad_in, grad_middle, grad_out, grad_b = everything(*arguments)
    assert y.isnan().any()
    assert logdet.isnan().any()
    for gradient in (grad_x, grad_A, grad_c, grad_in, grad_middle, grad_out, grad_b):
        assert gradient.isnan().any()


@needs_compiler
def test_same_numbers_every_time_and_from_several_threads(threads):
    threads(2)
    arguments = [some(6, 9, 7, 4, 24, 1, 3), some(4, 16, 16, 8, 40, 0, 2)] * 4
    expected = [everything(*a) for a in arguments]
    threads(1)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda a: everything(*a), arguments))
    alone = [everything(*a) for a in arguments]
    for one, other, third in zip(expected, expected[2:], alone, strict=False):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert_alike(one, third)
    for one, other in zip(at_once, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@needs_compiler
@pytest.mark.parametrize("which", range(1, 7))
def test_parameters_that_do_not_fit_are_refused(which):
    arguments = some(2, 4, 4, 4, 8, 1, 2)
    arguments[which] = arguments[which][..., :-1].contiguous()
    with torch.no_grad(), pytest.raises((ValueError, RuntimeError), match=r"expected|size"):
        forward_steps(arguments[0], BOUND, *arguments[1:])


@needs_compiler
def test_no_images():
    y, logdet, *_, grad_x, grad_A, grad_c, grad_in, grad_middle, grad_out, grad_b = everything(
        *some(0, 4, 4, 4, 8, 1, 2)
    )
    assert y.shape == grad_x.shape == (4, 0, 4, 4)
    assert logdet.shape == (0, 4, 4)
    for gradient in (grad_A, grad_c, grad_in, grad_middle, grad_out, grad_b):
        assert (gradient == 0).all()


@needs_compiler
@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_a_lesser_processor_computes_the_same(capability, tmp_path, monkeypatch):
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this is one")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = compiled.library.__wrapped__("kernels/steps.cpp")
    monkeypatch.setattr(compiled, "library", lambda name: library)
    assert library is not None
    for size in SIZES[:3]:
        assert_alike(everything(*some(*size)), in_double(*some(*size)))


@needs_compiler
def test_only_what_the_gradient_needs_is_kept(monkeypatch):
    """Two of what comes out of the steps without gradients, all of them and the log-scales with."""
    kept = []
    forward = steps.compiled_forward
    monkeypatch.setattr(steps, "compiled_forward", lambda *a, **k: kept.append(forward(*a, **k)) or kept[-1])
    x, *parameters = some(2, 4, 4, 4, 8, 1, 5)
    forward_steps(x, BOUND, *parameters)
    with torch.no_grad():
        forward_steps(x, BOUND, *(p.requires_grad_() for p in parameters))
    forward_steps(x, BOUND, *parameters)
    assert [len(ys) for _, _, ys, _ in kept] == [2, 2, 5]
    assert [None if log_scales is None else len(log_scales) for *_, log_scales in kept] == [None, None, 5]


def test_decode_has_a_gradient():
    flow = Glow((1, 4, 4), levels=1, steps=2, hidden_channels=4)
    latent = torch.randn(2, 4, 2, 2, requires_grad=True)
    flow.decode([latent]).sum().backward()
    assert latent.grad is not None
    assert latent.grad.abs().sum() > 0


class TestLibrary:
    """Each test in a cache folder of its own."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path / "flowlib"

    def library(self):
        return compiled.library.__wrapped__("kernels/steps.cpp")

    @needs_compiler
    def test_is_compiled_once_and_then_needs_no_compiler(self, folder, monkeypatch):
        assert self.library() is not None
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert {path.suffix for path in before} == {".so", ".sha256"}
        monkeypatch.setenv("CXX", "/no/compiler")
        assert self.library() is not None
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    @needs_compiler
    def test_is_made_anew_when_damaged_or_of_other_source(self, folder, tmp_path, monkeypatch):
        assert self.library() is not None
        (made,) = folder.glob("*.so")
        other = tmp_path / "other" / "flowlib"
        shutil.copytree(folder, other)
        (other / made.name).write_bytes(made.read_bytes()[:1000])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        assert self.library() is not None
        assert (other / made.name).read_bytes() == made.read_bytes()
        shutil.copytree(PACKAGE / "kernels", tmp_path / "kernels")
        (tmp_path / "kernels/steps.cpp").open("a").write("// changed\n")
        monkeypatch.setattr(compiled, "PACKAGE", tmp_path)
        assert self.library() is not None
        assert len(list(other.glob("*.so"))) == 2

    @pytest.mark.parametrize("compiler", ["/no/compiler", "false", "'"], ids=["none", "broken", "no command"])
    def test_without_a_compiler_torch_does_it(self, compiler, folder, monkeypatch, capfd):
        monkeypatch.setenv("CXX", compiler)
        assert self.library() is None
        assert not folder.exists() or not list(folder.iterdir())
        flow = Glow((1, 8, 8), levels=2, steps=2, hidden_channels=8)
        images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
        with torch.no_grad():
            for level in flow.levels:
                level.w_out.normal_()
            expected = flow.log_prob(images)
            monkeypatch.setattr(compiled, "library", lambda name: None)
            torch.testing.assert_close(flow.log_prob(images), expected)
        assert capfd.readouterr() == ("", "")

    def test_a_cache_that_cannot_be_written_is_no_error(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert self.library() is None

    @needs_compiler
    def test_compilers_without_openmp_will_do(self, folder, tmp_path, monkeypatch):
        compiler = tmp_path / "plain"
        compiler.write_text('#!/bin/sh\nfor a; do [ "$a" = -fopenmp ] && exit 1; done\nexec c++ "$@"\n')
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        assert self.library() is not None
