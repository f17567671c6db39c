"""Builds the extension `rlseq2seq._C`: always the CPU kernels, and the CUDA kernels where they can be compiled.

Environment variables:
    RLSEQ2SEQ_CUDA        `auto` (default): CUDA kernels when torch has CUDA and nvcc is found; `1`: build them or fail;
                          `0`: leave them out. Whether a GPU is visible is never asked.
    RLSEQ2SEQ_WERROR      `1`: a warning from a compiler in our own code is an error, as in `make test`. Otherwise not:
                          a compiler newer than the code may find something new to warn of.
    RLSEQ2SEQ_SANITIZE    `1`: build with AddressSanitizer and UBSan, as `make asan` does.
    TORCH_CUDA_ARCH_LIST  compute capabilities to build for (default "8.0;8.6;8.9;9.0+PTX").
"""

import os
import sys
from pathlib import Path

import torch
from setuptools import Extension, find_packages, setup
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
OPTIMISATION = ["-O3"]
WARNINGS = ["-Wall", "-Wextra"] + (["-Werror"] if os.environ.get("RLSEQ2SEQ_WERROR") == "1" else [])
# The headers of torch come without the type information that the check of virtual tables needs.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=undefined"]
CUDA_ARCHITECTURES = "8.0;8.6;8.9;9.0+PTX"


def nvcc_is_found() -> bool:
    """Whether torch sees a CUDA toolkit with a compiler in it (CUDA_HOME, the PATH or /usr/local/cuda)."""
    return cpp_extension.CUDA_HOME is not None and (Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc").exists()


def wants_cuda(choice: str, torch_cuda: str | None, nvcc: bool) -> bool:
    """Decide whether the CUDA kernels are built; exits with a sentence when they were asked for and cannot be."""
    if choice not in ("auto", "0", "1"):
        sys.exit(f"RLSEQ2SEQ_CUDA must be auto, 0 or 1, not {choice!r}.")
    obstacle = None
    if torch_cuda is None:
        obstacle = "this torch was built without CUDA; install a CUDA build of torch"
    elif not nvcc:
        obstacle = "nvcc was not found; install the CUDA toolkit and set CUDA_HOME or PATH"
    if choice == "1" and obstacle is not None:
        sys.exit(f"RLSEQ2SEQ_CUDA=1 asks for the CUDA kernels, but {obstacle}, or set RLSEQ2SEQ_CUDA=auto.")
    if choice == "auto" and torch_cuda is not None and not nvcc:
        print(f"The CUDA kernels are not built: {obstacle}.", file=sys.stderr)
    return choice != "0" and obstacle is None


def sources(cuda: bool) -> list[str]:
    """Every source file of the extension, relative to the root as setuptools wants them."""
    patterns = ["csrc/*.cpp", "csrc/cpu/*.cpp"] + (["csrc/cuda/*.cpp", "csrc/cuda/*.cu"] if cuda else [])
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def extension(cuda: bool) -> Extension:
    """Describe the extension to setuptools."""
    # Given as system directories, the headers of torch may warn without failing our own -Werror.
    includes = cpp_extension.include_paths(device_type="cuda" if cuda else "cpu")
    system = [argument for path in includes for argument in ("-isystem", path)]
    # at::parallel_for is inlined here, so OpenMP must be on; its library is the one that torch brings, hence no link
    # flag: a second OpenMP runtime would mean a second pool of threads.
    openmp = ["-fopenmp"] if torch.backends.openmp.is_available() else []
    sanitizers = [*SANITIZERS, "-fno-omit-frame-pointer"] if os.environ.get("RLSEQ2SEQ_SANITIZE") == "1" else []
    host = [*OPTIMISATION, "-funroll-loops", *WARNINGS, *openmp, *sanitizers]  # hot loops are a few instructions long
    facts = [f'-DRLSEQ2SEQ_TORCH_VERSION="{torch.__version__}"', f'-DRLSEQ2SEQ_FLAGS="{" ".join(host)}"']
    host_warnings = ["-Xcompiler", ",".join(WARNINGS)] + (["-Werror", "all-warnings"] if "-Werror" in WARNINGS else [])
    kind = cpp_extension.CUDAExtension if cuda else cpp_extension.CppExtension
    built: Extension = kind(
        name="rlseq2seq._C",
        sources=sources(cuda),
        depends=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.h")),
        define_macros=[("RLSEQ2SEQ_WITH_CUDA", None)] if cuda else [],
        extra_compile_args={
            "cxx": host + facts + system,
            "nvcc": OPTIMISATION + host_warnings + facts + system,
        },
        extra_link_args=sanitizers,
    )
    built.include_dirs = []
    return built


if __name__ == "__main__":
    with_cuda = wants_cuda(os.environ.get("RLSEQ2SEQ_CUDA", "auto"), torch.version.cuda, nvcc_is_found())
    if with_cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
    setup(
        packages=find_packages(include=["rlseq2seq", "rlseq2seq.*"]),
        ext_modules=[extension(with_cuda)],
        cmdclass={"build_ext": cpp_extension.BuildExtension},
    )
