"""One step of decoding by the operators and by their references: python -m benchmarks.search_steps

Random mixtures in float32. `torch.addmm` of the output layer is timed too: the reference calls it, and the operators,
on the CPU in float32, have a product of their own for few rows.
"""

from collections.abc import Callable

import torch

from benchmarks.timing import COMPILED, DEVICE, DTYPES, Row, medians, named, print_rows, ratios
from rlseq2seq.ops import (
    Mixture,
    SearchRules,
    beam_step,
    constant_weights,
    greedy_step,
    reference_search,
    sample_step,
    start_beams,
)

REPETITIONS = 15
VOCABULARY, FEATURES, SOURCE_TOKENS = 50_000 if DEVICE.type == "cuda" else 8000, 512, 200
BEAM, STEP, MAX_TOKENS = 4, 20, 40
PEER = "eager PyTorch"
BAR = 3.0 if DEVICE.type == "cuda" else None


def make_mixture(rows: int, sources: int, dtype: torch.dtype = torch.float32) -> Mixture:
    """A model that copies some names that the vocabulary lacks; rows share sources."""
    draw = torch.Generator().manual_seed(0)
    mixture = Mixture(
        features=torch.randn(rows, FEATURES, generator=draw).to(dtype),
        weight=(torch.randn(VOCABULARY, FEATURES, generator=draw) / FEATURES**0.5 * 3).to(dtype),
        bias=torch.randn(VOCABULARY, generator=draw).to(dtype),
        gate_logits=torch.randn(rows, generator=draw).to(dtype),
        attention=(3 * torch.randn(rows, SOURCE_TOKENS, generator=draw)).softmax(-1).to(dtype),
        source_ids=torch.randint(4, VOCABULARY + 20, (sources, SOURCE_TOKENS), generator=draw),
    )
    return Mixture(*(x if x is None else x.to(DEVICE) for x in mixture))


def row(work: str, mixture: Mixture, step: Callable[..., object], reference: Callable[..., object]) -> list[Row]:
    """One comparison, and how long the operator takes beside the matrix product."""

    def product() -> object:
        return torch.addmm(mixture.bias, mixture.features, mixture.weight.T)

    work = named(work, mixture.features.dtype)
    contenders = {"ours": lambda: step(mixture), PEER: lambda: reference(mixture), "product": product}
    bars: dict[str, float | None] = {PEER: BAR}
    if DEVICE.type == "cuda":
        torch.compiler.reset()
        compiled = torch.compile(reference, dynamic=False)
        contenders[COMPILED] = lambda: compiled(mixture)
        bars[COMPILED] = None
    times = medians(work, contenders, REPETITIONS)
    print(", ".join([work, *(f"{name} {1e3 * x:.2f} ms" for name, x in times.items())]))
    return ratios(work, times, bars)


@torch.no_grad()
@constant_weights()  # as in a decoder
def rows() -> list[Row]:
    return [row for dtype in DTYPES for row in rows_in(dtype)]


def rows_in(dtype: torch.dtype) -> list[Row]:
    shape = f"V {VOCABULARY}, F {FEATURES}, S {SOURCE_TOKENS}"
    single, several, beamed = (make_mixture(n, b, dtype) for n, b in ((32, 32), (128, 32), (16 * BEAM, 16)))
    noise = torch.rand(128, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    rules = SearchRules(length_penalty=1.0, block_ngrams=3, min_tokens=5)
    beams = start_beams(16, BEAM, MAX_TOKENS, like=beamed.features)
    for step in range(STEP):
        beams, _, _ = beam_step(beamed, beams, step, rules)
    return [
        *row(f"greedy step, 32 rows, {shape}", single, greedy_step, reference_search.greedy_step),
        *row(
            f"sampling step, 128 rows of 32 sources, {shape}",
            several,
            lambda mixture: sample_step(mixture, noise),
            lambda mixture: reference_search.sample_step(mixture, noise),
        ),
        *row(
            f"sampling step with top-k 40 and top-p 0.95, 128 rows of 32 sources, {shape}",
            several,
            lambda mixture: sample_step(mixture, noise, 0.8, 40, 0.95),
            lambda mixture: reference_search.sample_step(mixture, noise, 0.8, 40, 0.95),
        ),
        *row(
            f"beam step, 16 sources, beam {BEAM}, {shape}",
            beamed,
            lambda mixture: beam_step(mixture, beams, STEP, rules),
            lambda mixture: reference_search.beam_step(mixture, beams, STEP, rules),
        ),
    ]


if __name__ == "__main__":
    print_rows(rows())
