"""The build: what setup.py decides, and what the loader says about an extension that is missing or does not fit."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rlseq2seq.errors import UserError
from rlseq2seq.ops import extension

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    specification = importlib.util.spec_from_file_location("build_script", ROOT / "setup.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("choice", "torch_cuda", "nvcc", "expected"),
    [
        ("auto", None, False, False),
        ("auto", None, True, False),
        ("auto", "13.0", False, False),
        ("auto", "13.0", True, True),
        ("0", "13.0", True, False),
        ("1", "13.0", True, True),
    ],
)
def test_when_cuda_is_built(build: ModuleType, choice: str, torch_cuda: str | None, nvcc: bool, expected: bool) -> None:
    assert build.wants_cuda(choice, torch_cuda, nvcc) is expected


@pytest.mark.parametrize(
    ("choice", "torch_cuda", "nvcc", "sentence"),
    [
        ("1", None, True, "RLSEQ2SEQ_CUDA=1 asks for the CUDA kernels, but this torch was built without CUDA"),
        ("1", "13.0", False, "RLSEQ2SEQ_CUDA=1 asks for the CUDA kernels, but nvcc was not found"),
        ("yes", "13.0", True, "RLSEQ2SEQ_CUDA must be auto, 0 or 1, not 'yes'."),
    ],
)
def test_cuda_that_cannot_be_built_fails_loudly(
    build: ModuleType, choice: str, torch_cuda: str | None, nvcc: bool, sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        build.wants_cuda(choice, torch_cuda, nvcc)


def test_every_source_is_compiled(build: ModuleType) -> None:
    everything = {str(path.relative_to(ROOT)) for end in ("cpp", "cu") for path in ROOT.glob(f"csrc/**/*.{end}")}
    assert set(build.sources(cuda=True)) == everything
    assert set(build.sources(cuda=False)) == {path for path in everything if not path.startswith("csrc/cuda/")}


def test_build_facts() -> None:
    facts = extension.load().build_facts()
    assert facts["torch"] == torch.__version__
    assert "-O3" in facts["flags"].split() and "-march=native" not in facts["flags"]
    assert facts["cuda"] is None or facts["cuda"].split(".")[0].isdigit()


def test_a_missing_extension_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"_C is missing: build it with `make build` \(pip install .* -e \.\)\."):
        extension.load()


def test_an_extension_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise ImportError("undefined symbol: f")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match=r"_C does not load .undefined symbol: f.: build it with `make build`"):
        extension.load()


def test_an_extension_for_another_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(build_facts=lambda: {"torch": "1.0.0"})
    monkeypatch.setattr(importlib, "import_module", lambda name: other)
    with pytest.raises(UserError, match=r"_C was built for torch 1.0.0, not .*: build it with `make build`"):
        extension.load()
