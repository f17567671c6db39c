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

from benchmarks.timing import DEVICE, Row, medians, print_rows, ratios
from rlseq2seq.ops import Mixture, pointer_loss, reference, weighted_pointer_loss

ROWS, SOURCE, FEATURES, COPIES = 1280, 200, 256, 20
# On a GPU, in float32.
TIMES = {8_000: 1.7, 50_000: 1.6} if DEVICE.type == "cpu" else {8_000: 1.2, 50_000: 1.2}
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
    "pointer_loss": lambda mixture, targets, weights: (weights * pointer_loss(mixture, targets)).sum(),
    "extended distribution, eager": extended_distribution,
    "reference, eager": lambda *inputs: reference.weighted_pointer_loss(*inputs).total,
}
OURS, PEER = "weighted_pointer_loss", "extended distribution, eager"


def inputs(vocabulary: int) -> tuple[Mixture, Tensor, Tensor]:
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
    for leaf in mixture[:5]:
        leaf.requires_grad_()  # type: ignore[union-attr]
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
    if DEVICE.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from here on
    before = peak()
    step(CONTENDERS[name], arguments)
    return peak() - before


def measured_growth(name: str, vocabulary: int) -> float:
    command = [sys.executable, "-m", "benchmarks.pointer_loss", name, str(vocabulary)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows() -> list[Row]:
    table = []
    for vocabulary in TIMES:
        size = f"1280 rows, S 200, F 256, V {vocabulary}"
        arguments = inputs(vocabulary)
        times = medians(size, {name: partial(step, loss, arguments) for name, loss in CONTENDERS.items()})
        memories = {name: measured_growth(name, vocabulary) for name in CONTENDERS}
        for name in (OURS, "pointer_loss"):
            # Both forms of the operator promise the memory; the one with gradients made forward promises the time.
            bar = TIMES[vocabulary] if name == OURS else None
            work = f"{name}, forward + backward, {size}"
            table += ratios(work, {name: times[name], PEER: times[PEER]}, {PEER: bar})
            growths = {name: memories[name], PEER: memories[PEER]}
            table += ratios(f"{work}: peak memory", growths, {PEER: MEMORIES[vocabulary]})
    return table


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(peak_growth(sys.argv[1], int(sys.argv[2])))
    else:
        print_rows(rows())
