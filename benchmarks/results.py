"""Where results are kept: benchmarks/results/<device>.json, a list of rows with their device and date."""

import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.timing import DEVICE, Row

RESULTS = Path(__file__).parent / "results"


def device_name() -> str:
    """The GPU's name, or the processor's and how many threads are used."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    facts = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", facts.read_text()) if facts.exists() else []
    return f"{names[0].strip() if names else platform.machine()}, {torch.get_num_threads()} threads"


def file_name(suffix: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device_name().lower()).strip("-") + suffix


def write(rows: list[Row]) -> Path:
    """Add ``rows`` to the device's file, in the place of earlier rows of the same work and peer."""
    path = RESULTS / file_name(".json")
    before = json.loads(path.read_text()) if path.exists() else []
    new = {(row["work"], row["peer"]) for row in rows}
    stamp = {"device": device_name(), "date": datetime.now(UTC).date().isoformat()}
    kept = [row for row in before if (row["work"], row["peer"]) not in new]
    path.parent.mkdir(exist_ok=True)
    everything = kept + [{**row, "ratio": round(row["ratio"], 2), **stamp} for row in rows]
    path.write_text(json.dumps(everything, indent=2) + "\n")
    return path
