"""Every benchmark with a bar, in turn, or those named: make bench, or python -m benchmarks copy_attention decoder"""

import subprocess
import sys
from importlib import import_module

from benchmarks import results
from benchmarks.timing import DEVICE, print_rows

# Imported when asked for: each needs its own peers. Those of rouge_l are for the CPU.
ON_CPU = ["rouge_l", "copy_attention", "pointer_loss", "search_steps", "decoder", "replay"]
ON_GPU = [
    *("copy_attention", "pointer_loss", "lstm_cell", "search_steps"),
    *("rewards_on_device", "bandwidth", "decoder", "training_step"),
]
NAMES = ON_CPU if DEVICE.type == "cpu" else ON_GPU


def main() -> None:
    names = sys.argv[1:] or NAMES
    if len(names) > 1:
        for name in names:  # each in a process of its own: threads, compiled code and memory are settled by process
            subprocess.run([sys.executable, "-m", "benchmarks", name], check=True)
        return
    rows = import_module(f"benchmarks.{names[0]}").rows()
    print_rows(rows)
    print(f"written to {results.write(rows)}\n", flush=True)


if __name__ == "__main__":
    main()
