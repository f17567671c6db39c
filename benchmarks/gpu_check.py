"""Everything that only a GPU can show, in parts that each take under eight minutes: make gpu-check

For a machine with torch, nvcc, ninja and no network. Python packages that it lacks may lie as wheels in build/wheels
(`make gpu-wheels`). Each part writes its result as it ends, into benchmarks/results/<device>.check.json; run again, it
does those that have not passed. Rows of benchmarks go to benchmarks/results/<device>.json.

    python -m benchmarks.gpu_check tests-1 bandwidth

does these two, though they have passed, once the extension is built.
"""

import json
import os
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
TESTS, SHARES = ["ops", "models", "decoding", "objectives", "rewards"], 4
WHEELS, SITE = ROOT / "build" / "wheels", ROOT / "build" / "site"
SECONDS = 480


def run(*command: str, **variables: str) -> str:
    """The end of the command's output; it gets eight minutes, and these variables in its environment.

    Raises:
        SystemExit: it fails.
    """
    path = os.pathsep.join([str(ROOT), str(SITE)])
    environment = os.environ | {"PYTHONPATH": path, "RLSEQ2SEQ_CUDA": "1"} | variables
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    environment.setdefault("TORCH_CUDA_ARCH_LIST", capability)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"{' '.join(command)}: not done after {SECONDS} s\n{str(late.stdout)[-4000:]}") from None
    output = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{output[-8000:]}")
    return output[-2000:]


def build() -> str:
    if WHEELS.is_dir():
        wheels = sorted(str(path) for path in WHEELS.glob("*.whl"))
        run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(SITE), *wheels)
    run(sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    return run(sys.executable, "-c", "from rlseq2seq.ops import extension; print(extension.load().build_facts())")


def tests(share: int) -> str:
    """One of ``SHARES`` of the files, dealt out so that each layer's slow ones do not come together."""
    files = [str(path) for layer in TESTS for path in sorted((ROOT / "tests").glob(f"test_{layer}_*.py"))]
    return program("pytest", "-q", "-k", "not cpu", *files[share::SHARES])


def sanitizer(tool: str) -> str:
    command = "compute-sanitizer", "--tool", tool, "--error-exitcode", "1", sys.executable, "-m"
    # Tensors that share an allocation are not told apart: what is read past one of them would go unseen.
    return run(*command, "benchmarks.every_kernel", PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def program(*arguments: str) -> str:
    return run(sys.executable, "-m", *arguments)


PARTS: dict[str, Callable[[], str]] = {
    "build": build,
    **{f"tests-{i + 1}": partial(tests, i) for i in range(SHARES)},
    "memcheck": lambda: sanitizer("memcheck"),
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
