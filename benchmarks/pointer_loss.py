"""The loss of the copy mixture beside the extended distribution in PyTorch: python -m benchmarks.pointer_loss

1280 rows over sources of 200 tokens, 256 features, vocabularies of 8,000 and 50,000; forward and backward, gradients of
every input. Memory is how much the peak of a process's resident memory grows over one forward and backward pass, each
in a process of its own (on a GPU, of what PyTorch allocates there); results and gradients count.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.timing import COMPILED, DEVICE, DTYPES, Row, medians, named, print_rows, ratios
from rlseq2seq.ops import Mixture, pointer_loss, reference, weighted_pointer_loss

ROWS, SOURCE, FEATURES, COPIES = 1280, 200, 256, 20
VOCABULARIES = (8_000, 50_000)
# Of 256 MiB of logits, which a GPU has in hand at a time, less is to be saved than of 12: no bar.
if DEVICE.type == "cuda":
    TIMES = {(v, dtype): 1.2 if dtype == torch.float32 else 2.0 for v in VOCABULARIES for dtype in DTYPES}
    MEMORIES: dict[int, float | None] = dict.fromkeys(VOCABULARIES)
else:
    TIMES = {(8_000, torch.float32): 1.7, (50_000, torch.float32): 1.6}
    MEMORIES = {8_000: 6.0, 50_000: 12.0}
Loss = Callable[[Mixture, Tensor, Tensor], Tensor]


def extended_distribution(mixture: Mixture, targets: Tensor, weights: Tensor) -> Tensor:
    """As implementations of See et al. 2017 do: all probabilities of vocabulary and copies, then one of them."""
    vocabulary = torch.softmax(torch.addmm(mixture.bias, mixture.features, mixture.weight.T), -1)
    gate = torch.sigmoid(mixture.gate_logits)[:, None]  # type: ignore[arg-type]
    extended = pad(gate * vocabulary, (0, COPIES))
    extended = extended.scatter_add(1, mixture.source_ids, (1 - gate) * mixture.attention)
    return (weights * torch.log(extended.gather(1, targets[:, None])[:, 0])).sum()


CONTENDERS: dict[str, Loss] = {
    "weighted_pointer_loss": lambda *inputs: weighted_pointer_loss(*inputs).total,
    "weighted_pointer_loss with entropy": lambda *inputs: weighted_pointer_loss(*inputs, inputs[2]).total,
    "pointer_loss": lambda mixture, targets, weights: (weights * pointer_loss(mixture, targets)).sum(),
    "extended distribution, eager": extended_distribution,
    "reference, eager": lambda *inputs: reference.weighted_pointer_loss(*inputs).total,
}
OURS, PEER = "weighted_pointer_loss", "extended distribution, eager"


def inputs(vocabulary: int, dtype: torch.dtype = torch.float32) -> tuple[Mixture, Tensor, Tensor]:
    """A third of the targets are copies, some of them of tokens that the vocabulary lacks."""
    torch.manual_seed(0)
    torch.set_default_device(DEVICE)
    source_ids = torch.randint(4, vocabulary + COPIES, (ROWS, SOURCE))
    targets = torch.where(torch.rand(ROWS) < 1 / 3, source_ids[:, 0], torch.randint(4, vocabulary, (ROWS,)))
    mixture = Mixture(
        torch.randn(ROWS, FEATURES),
        torch.randn(vocabulary, FEATURES) / 16,
        torch.randn(vocabulary),
        torch.randn(ROWS),
        torch.randn(ROWS, SOURCE).softmax(-1),
        source_ids,
    )
    mixture = Mixture(*(x.to(dtype).requires_grad_() for x in mixture[:5]), source_ids)  # type: ignore[union-attr]
    weights = torch.full((ROWS,), -1 / ROWS)
    torch.set_default_device(None)
    return mixture, targets, weights


def step(loss: Loss, arguments: tuple[Mixture, Tensor, Tensor]) -> None:
    """Forward and backward into fresh gradients."""
    for leaf in arguments[0][:5]:
        leaf.grad = None  # type: ignore[union-attr]
    torch.autograd.backward(loss(*arguments))


def peak() -> int:
    """The peak of this process's resident memory in bytes (Linux; getrusage counts the parent's too), or the GPU's."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peak_growth(name: str, vocabulary: int) -> int:
    """Bytes by which this process's peak grows over one step; to be run in a fresh process."""
    arguments = inputs(vocabulary)
    if DEVICE.type == "cpu":  # the peak is from here on
        Path("/proc/self/clear_refs").write_text("5")
    else:
        torch.cuda.reset_peak_memory_stats()
    before = peak()
    step(CONTENDERS[name], arguments)
    return peak() - before


def measured_growth(name: str, vocabulary: int) -> float:
    command = [sys.executable, "-m", "benchmarks.pointer_loss", name, str(vocabulary)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def times_of(vocabulary: int, dtype: torch.dtype) -> list[Row]:
    arguments = inputs(vocabulary, dtype)
    losses = dict(CONTENDERS)
    if DEVICE.type == "cuda":
        torch.compiler.reset()
        losses[COMPILED] = torch.compile(extended_distribution, dynamic=False)
    size = named(sizes(vocabulary), dtype)
    times = medians(size, {name: partial(step, loss, arguments) for name, loss in losses.items()})
    table = []
    for name in (OURS, f"{OURS} with entropy", "pointer_loss"):
        # The form with gradients made forward promises the time.
        bars: dict[str, float | None] = {PEER: TIMES[vocabulary, dtype] if name == OURS else None}
        bars |= {COMPILED: None} if name == OURS and COMPILED in times else {}
        peers = {name: times[name]} | {peer: times[peer] for peer in bars}
        table += ratios(f"{name}, forward + backward, {size}", peers, bars)
    return table


def memories_of(vocabulary: int) -> list[Row]:
    memories = {name: measured_growth(name, vocabulary) for name in (OURS, "pointer_loss", PEER)}
    table = []
    for name in (OURS, "pointer_loss"):
        growths = {name: memories[name], PEER: memories[PEER]}
        work = f"{name}, forward + backward, {sizes(vocabulary)}: peak memory"
        table += ratios(work, growths, {PEER: MEMORIES[vocabulary]})
    return table


def sizes(vocabulary: int) -> str:
    return f"{ROWS} rows, S {SOURCE}, F {FEATURES}, V {vocabulary}"


def rows() -> list[Row]:
    times = [row for vocabulary, dtype in TIMES for row in times_of(vocabulary, dtype)]
    return times + [row for vocabulary in MEMORIES for row in memories_of(vocabulary)]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(peak_growth(sys.argv[1], int(sys.argv[2])))
    else:
        print_rows(rows())
