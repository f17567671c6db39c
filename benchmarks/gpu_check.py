"""Everything that only a GPU can show, in parts that each take under eight minutes: make gpu-check

For a machine with torch, nvcc, ninja and no network. Python packages that it lacks may lie as wheels in build/wheels
(`make gpu-wheels`). Each part writes its result as it ends, into benchmarks/results/<device>.check.json; run again, it
does those that have not passed. Rows of benchmarks go to benchmarks/results/<device>.json.

    python -m benchmarks.gpu_check tests-1 bandwidth

does these two, though they have passed, once the extension is built.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from benchmarks.__main__ import ON_GPU
from benchmarks.results import RESULTS, device_name, file_name

ROOT = Path(__file__).parents[1]
# Those that take a device, and those of what is different where there is CUDA.
LAYERS = ["ops", "models", "decoding", "objectives", "rewards"]
TESTS = [*(f"{layer}_*" for layer in LAYERS), "generation", "data_vocabulary_file", "stages_pretrain"]
SHARES = 4
WHEELS, SITE = ROOT / "build" / "wheels", ROOT / "build" / "site"
SECONDS = 480
LONGEST = 100_000  # characters of what a part that fails has to say


def run(*command: str, **variables: str) -> str:
    """The end of the command's output; it gets eight minutes, and ``variables`` beside those of `environment`.

    Raises:
        SystemExit: it fails.
    """
    told = " ".join(command)
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise SystemExit(f"{told}: {error}") from None
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except BaseException as stopped:
        os.killpg(process.pid, signal.SIGKILL)  # what it started, too: that would keep the device busy
        output, _ = process.communicate()
        if not isinstance(stopped, subprocess.TimeoutExpired):
            raise
        raise SystemExit(f"{told}: not done after {SECONDS} s\n{output[-LONGEST:]}") from None
    if process.returncode:
        raise SystemExit(f"{told}: exit {process.returncode}\n{output[-LONGEST:]}")
    return output[-2000:]


def environment() -> dict[str, str]:
    """What commands see: this Python's programs and the toolkit's come first on the path, and the wheels are there."""
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    home = os.environ.get("CUDA_HOME") or toolkit()
    paths = [Path(sys.executable).parent, *([Path(home) / "bin"] if home else []), os.environ.get("PATH", "")]
    return {
        "TORCH_CUDA_ARCH_LIST": capability,
        **os.environ,
        **({"CUDA_HOME": home} if home else {}),
        "PATH": os.pathsep.join(map(str, paths)),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "RLSEQ2SEQ_CUDA": "1",
    }


def toolkit() -> str | None:
    """Where the headers of CUDA are. PyTorch takes them to be beside nvcc, which may be a script in another folder."""
    nvcc = shutil.which("nvcc")
    places = [*([Path(nvcc).resolve().parents[1]] if nvcc else []), Path("/usr/local/cuda")]
    return next((str(place) for place in places if (place / "include" / "cuda_runtime_api.h").exists()), None)


def build() -> str:
    if WHEELS.is_dir():
        wheels = sorted(str(path) for path in WHEELS.glob("*.whl"))
        run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(SITE), *wheels)
    run(sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    return run(sys.executable, "-c", "from rlseq2seq.ops import extension; print(extension.load().build_facts())")


def tests(share: int) -> str:
    """One of ``SHARES`` of the files, dealt out so that each layer's slow ones do not come together."""
    files = [str(path) for names in TESTS for path in sorted((ROOT / "tests").glob(f"test_{names}.py"))]
    # Some names that are of CUDA have both words in them.
    return program("pytest", "--tb=short", "-k", "cuda or not cpu", *files[share::SHARES])


def sanitizer(tool: str, *options: str) -> str:
    """Our own kernels alone, each tensor in memory of its own: within PyTorch's cache nothing is out of bounds."""
    ours = "--kernel-name", "kns=rlseq2seq", "--error-exitcode", "1"
    checked = sys.executable, "-m", "benchmarks.every_kernel"
    return run("compute-sanitizer", "--tool", tool, *options, *ours, *checked, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def program(*arguments: str) -> str:
    return run(sys.executable, "-m", *arguments)


PARTS: dict[str, Callable[[], str]] = {
    "build": build,
    **{f"tests-{i + 1}": partial(tests, i) for i in range(SHARES)},
    # PyTorch tries calls that may fail.
    "memcheck": lambda: sanitizer("memcheck", "--report-api-errors", "no", "--padding", "1024"),
    "racecheck": lambda: sanitizer("racecheck"),
    **{name: partial(program, "benchmarks", name) for name in ON_GPU},
    "training": lambda: program("benchmarks.train_minute"),
}


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu-check needs a CUDA device, and torch sees none.")
    asked = sys.argv[1:]
    if unknown := set(asked) - PARTS.keys():
        sys.exit(f"gpu-check has the parts {', '.join(PARTS)}, not {', '.join(sorted(unknown))}.")
    record = RESULTS / file_name(".check.json")
    done = json.loads(record.read_text()) if record.exists() else {"device": device_name(), "parts": {}}
    for name, part in PARTS.items():
        wanted = name in asked if asked else not done["parts"].get(name, {}).get("passed")
        # What was built is not in the repository: a fresh machine builds anew.
        if not wanted and name != "build":
            continue
        start = time.monotonic()
        try:
            output, passed = part(), True
        except SystemExit as failure:
            output, passed = str(failure), False
        print(f"== {name}: {'passed' if passed else 'FAILED'}\n{output}", flush=True)
        done["parts"][name] = {
            "passed": passed,
            "seconds": round(time.monotonic() - start),
            "date": datetime.now(UTC).date().isoformat(),
            "torch": torch.__version__,
            "output": output.splitlines()[-40:],
        }
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps(done, indent=2) + "\n")
        if name == "build" and not passed:
            break
    failed = [name for name, part in done["parts"].items() if not part["passed"]]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
