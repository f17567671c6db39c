"""A whole training step, of the size that papers have, beside the same model on the PyTorch references.

    python -m benchmarks.training_step

Pointer-generator, 64 pairs of 400 and 100 tokens, vocabulary 50,000, encoder 256 a direction, decoder 512, in float32:
encoder, decoder, loss, their gradients and Adam. Only for a GPU: on two cores one step takes minutes.
"""

import torch

from benchmarks.decoder import make_batch, make_model, referenced
from benchmarks.timing import Row, medians, print_rows, ratios
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood

PAIRS, SOURCE, TARGET, VOCABULARY = 64, 400, 100, 50_000


def rows() -> list[Row]:
    model, batch = make_model(VOCABULARY), make_batch(PAIRS, SOURCE, TARGET, VOCABULARY)
    model.encoder.train()  # it has no dropout, and cuDNN gives gradients in training mode alone
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        memory = model.encode(batch.sources, batch.source_lengths)
        loss = maximum_likelihood(model, memory, batch, 0.0)
        optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        optimizer.step()

    work = f"training step, {PAIRS} pairs of {SOURCE} and {TARGET} tokens, V {VOCABULARY}, encoder 256, decoder 512"
    times = medians(work, {"ours": step, "references": referenced(step)})
    print(", ".join(f"{name}: {PAIRS * TARGET / seconds:,.0f} tokens/s" for name, seconds in times.items()))
    return ratios(work, times, {"references": 5.0})


if __name__ == "__main__":
    print_rows(rows())
