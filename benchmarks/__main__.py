"""Every benchmark with a bar, in turn: make bench, or python -m benchmarks operators | decoder"""

import sys
from importlib import import_module

from benchmarks import results
from benchmarks.timing import DEVICE, print_rows

# Imported when asked for: each needs its own peers. Those of rouge_l are for the CPU.
OPERATORS = ["copy_attention", "pointer_loss", "search_steps"]
GROUPS = {"operators": (["rouge_l"] if DEVICE.type == "cpu" else []) + OPERATORS, "decoder": ["decoder"]}


def main() -> None:
    for group in sys.argv[1:] or GROUPS:
        for name in GROUPS[group]:
            rows = import_module(f"benchmarks.{name}").rows()
            print_rows(rows)
            print(f"written to {results.write(rows)}\n", flush=True)


if __name__ == "__main__":
    main()
