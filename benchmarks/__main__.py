"""Every benchmark with a bar, in turn: make bench, or python -m benchmarks operators | decoder"""

import sys

from benchmarks import results
from benchmarks.timing import print_rows

# Imported when asked for: each needs its own peers.
GROUPS = {"operators": ["rouge_l", "copy_attention", "pointer_loss", "search_steps"], "decoder": ["decoder"]}


def main() -> None:
    for group in sys.argv[1:] or GROUPS:
        for name in GROUPS[group]:
            module = __import__(f"benchmarks.{name}", fromlist=["rows"])
            rows = module.rows()
            print_rows(rows)
            print(f"written to {results.write(rows)}\n", flush=True)


if __name__ == "__main__":
    main()
