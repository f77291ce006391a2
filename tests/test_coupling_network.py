"""The compiled coupling network against the one in torch, and what happens where it cannot be compiled."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowlib import Glow, compiled, coupling_network
from flowlib.coupling_network import CouplingNetwork, network, network_gradient

COMPILED = compiled.library("coupling_network")
needs_compiler = pytest.mark.skipif(COMPILED is None, reason="no C++ compiler")


def some(N: int, H: int, W: int, Cb: int, outputs: int, hidden: int, middle: int) -> list[Tensor]:
    """An input and weights of one size, such that no layer grows or vanishes."""
    generator = torch.Generator().manual_seed(N + H + W + hidden)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    wide = [random(hidden, hidden + 1) for _ in range(middle)]
    return [random(Cb, N, H, W), random(hidden, 9 * Cb + 1), random(9 * outputs, hidden), random(outputs), *wide]


def everything(b: Tensor, *weights: Tensor) -> list[Tensor]:
    """Output and all gradients, for an output gradient that is not uniform."""
    out = network(b, *weights)
    of_out = 1 + 0.5 * torch.sin(torch.arange(out.numel())).to(b).view_as(out)
    return [out, *network_gradient(b, of_out, *weights)]


@pytest.fixture
def in_torch(monkeypatch):
    def of(b: Tensor, *weights: Tensor) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(coupling_network, "compiled_for", lambda *tensors: None)
            return [t.float() for t in everything(b.double(), *(w.double() for w in weights))]

    return of


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
        torch.testing.assert_close(one, other, rtol=0, atol=3e-6 * largest + 1e-7)


SIZES = [
    (3, 8, 8, 2, 4, 16, 0),
    (2, 16, 16, 2, 4, 128, 1),  # a panel ends within an image
    (5, 7, 7, 4, 8, 20, 1),  # panels of several images, a width of no whole vectors
    (1, 40, 32, 2, 4, 32, 1),  # one image for several threads
    (7, 5, 9, 3, 4, 13, 2),
    (2, 6, 1, 6, 12, 9, 0),  # one column, wider than the hidden layer
    (1, 1, 1, 1, 2, 1, 1),
    (3, 3, 130, 1, 2, 300, 1),  # a row longer than a panel
]


@needs_compiler
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_compiled_and_torch_agree(size, number, in_torch, threads):
    arguments = some(*size)
    threads(number)
    assert_alike(everything(*arguments), in_torch(*arguments))


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    st.tuples(
        *(st.integers(1, n) for n in (4, 12, 12, 5)), st.sampled_from([2, 4, 6]), st.integers(1, 40), st.integers(0, 2)
    )
)
def test_compiled_and_torch_agree_at_any_size(size):
    arguments = some(*size)
    double = [t.double() for t in arguments]
    assert_alike(everything(*arguments), [t.float() for t in everything(*double)])


@needs_compiler
def test_nothing_is_written_beside_the_result(in_torch):
    """Memory around inputs and outputs stays as it was; views are read as what they show."""
    b, *weights = some(3, 5, 6, 2, 4, 12, 1)
    around = torch.full((6, 3, 5, 6), 7.0)
    around[2:4] = b
    strided = torch.full((2, 3, 6, 5), 7.0).transpose(2, 3).copy_(b)
    expected = in_torch(b, *weights)
    for view in (around[2:4], strided):
        assert_alike(everything(view, *(w.t().contiguous().t() if w.ndim == 2 else w for w in weights)), expected)
    assert (around[[0, 1, 4, 5]] == 7).all()


@needs_compiler
@pytest.mark.parametrize("where", range(5), ids=["input", "first", "last", "bias", "middle"])
def test_a_nan_is_not_lost(where):
    """A ReLU that turned NaN into zero would hide it from the check of the loss."""
    arguments = some(2, 4, 4, 2, 4, 8, 1)
    arguments[where].view(-1)[0] = torch.nan
    assert network(*arguments).isnan().any()
    if where != 3:  # an output's bias has no part in the gradients
        assert any(gradient.isnan().any() for gradient in everything(*arguments)[1:])


@needs_compiler
def test_same_numbers_every_time_and_from_several_threads(threads):
    threads(2)
    arguments = [some(6, 9, 7, 2, 4, 24, 1), some(4, 16, 16, 4, 8, 40, 0)] * 4
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
def test_matrices_that_do_not_fit_are_refused():
    b, w_in, *rest = some(2, 4, 4, 2, 4, 8, 1)
    with pytest.raises(ValueError, match=r"expected.*19"):
        network(b, w_in[:, :-1], *rest)


@needs_compiler
def test_no_images():
    out, *gradients = everything(*some(0, 4, 4, 2, 4, 8, 1))
    assert out.shape == (4, 0, 4, 4)
    assert all((gradient == 0).all() for gradient in gradients)


@needs_compiler
@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_a_lesser_processor_computes_the_same(capability, tmp_path, monkeypatch, in_torch):
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this is one")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = compiled.library.__wrapped__("coupling_network")
    monkeypatch.setattr(compiled, "library", lambda name: library)
    assert library is not None
    for size in SIZES[:3]:
        assert_alike(everything(*some(*size)), in_torch(*some(*size)))


def test_gradients_are_those_of_the_network():
    arguments = [t.double().requires_grad_() for t in some(2, 3, 4, 2, 4, 5, 1)]
    assert torch.autograd.gradcheck(CouplingNetwork.apply, arguments)


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
        return compiled.library.__wrapped__("coupling_network")

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
        for name in ("compiled.py", "coupling_network.cpp"):
            shutil.copy(Path(compiled.__file__).with_name(name), tmp_path)
        (tmp_path / "coupling_network.cpp").open("a").write("// changed\n")
        monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
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
