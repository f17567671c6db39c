"""Where and with how many threads to compute."""

import re

import torch

from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.errors import UserError
from rlseq2seq.ops import extension


def set_up_device(runtime: RuntimeConfig) -> torch.device:
    """Apply the runtime knobs and return the device. On the CPU the same seed gives the same bits.

    Raises:
        UserError: a GPU is asked for and there is none, or no kernel for it.
    """
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    device = find_device(runtime.device, "runtime.device")
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling what is about to be written anyway costs time and guards against nothing here.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def find_device(name: str, key: str) -> torch.device:
    """The device called ``name``: auto, cpu, cuda or cuda:N; ``key`` is where the user wrote it.

    Raises:
        UserError: there is no such device, or the extension has no kernels for it.
    """
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", name):
        raise UserError(f"{key} is {name}: it must be auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{key} is {name}, and PyTorch {torch.__version__} sees {torch.cuda.device_count()} GPUs: "
            "set it to auto or cpu"
        )
    if device.type == "cuda" and extension.load().build_facts()["cuda"] is None:
        raise UserError(
            f"{key} is {asked}, and PyTorch sees a GPU, but the extension was built without CUDA kernels: set it to "
            "cpu, or install the CUDA toolkit (nvcc) and build again (touch setup.py; make build)"
        )
    return device
