from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.errors import UserError
from rlseq2seq.ops import extension
from rlseq2seq.training.device import find_device, set_up_device


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    torch.utils.deterministic.fill_uninitialized_memory = filled


def runtime(**changes: Any) -> RuntimeConfig:
    return RuntimeConfig(
        **{"device": "cpu", "threads": None, "workers": None, "checkpoint_every": 1, "log_interval": 1.0, **changes}
    )


def built_with(monkeypatch: pytest.MonkeyPatch, cuda: str | None) -> None:
    monkeypatch.setattr(extension, "load", lambda: SimpleNamespace(build_facts=lambda: {"cuda": cuda}))


def test_the_cpu_is_deterministic_with_the_threads_asked_for() -> None:
    threads = torch.get_num_threads()
    assert set_up_device(runtime()) == torch.device("cpu")
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    set_up_device(runtime(threads=threads + 1))
    assert torch.get_num_threads() == threads + 1


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto", "--device") == torch.device(name)


def test_a_gpu_without_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(UserError, match=rf"^runtime\.device is {name}, and PyTorch sees a GPU, but .*: set it to"):
            set_up_device(runtime(device=name))
    assert find_device("cpu", "--device") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1", "--device") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"^runtime\.device is cuda:2, and PyTorch .* sees 2 GPUs"):
        set_up_device(runtime(device="cuda:2"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"^--device is cuda, and PyTorch .* sees 0 GPUs: set it to auto or cpu$"):
        find_device("cuda", "--device")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CPU", "mps", "meta", "cuda:1 "])
def test_what_is_no_device_is_told(name: str) -> None:
    with pytest.raises(UserError, match=r"^--device is .*: it must be auto, cpu, cuda or cuda:N$"):
        find_device(name, "--device")
