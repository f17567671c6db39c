"""Every operator on small, odd sizes, forward and backward: what compute-sanitizer watches in `make gpu-check`."""

import torch
from torch import Tensor

from benchmarks.timing import DEVICE
from rlseq2seq import ops
from rlseq2seq.ops import Mixture, SearchRules

# (sources, rows a source, positions, size): beside and beyond a warp, a block, a vector of 16 bytes.
SHAPES = [(1, 1, 1, 1), (2, 3, 33, 7), (3, 1, 65, 64), (2, 4, 129, 130), (5, 2, 0, 8), (1, 2, 513, 36), (2, 5, 70, 40)]
VOCABULARY = 301


def main() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64, *([torch.bfloat16] if DEVICE.type == "cuda" else [])):
        for sources, shared, positions, size in SHAPES:
            attention(sources, shared, positions, size, dtype)
            attention_of_a_loop(sources, shared, positions, size, dtype)
            cell(sources * shared, size, dtype)
            mixture(sources, shared, positions, size, dtype)
    for sources, shared, _, time in SHAPES:
        scores(sources, shared, time)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    print("every kernel ran")


def leaf(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, device=DEVICE, dtype=dtype).requires_grad_()


def backward(*outputs: Tensor | None) -> None:
    torch.autograd.backward([x.sum() for x in outputs if x is not None])


def attention(sources: int, shared: int, positions: int, size: int, dtype: torch.dtype) -> None:
    rows, wide = sources * shared, torch.float32 if dtype == torch.bfloat16 else dtype
    value_size = size + (8 if size % 4 == 0 else 3)  # rows of whole vectors where those of keys are such
    keys, values = leaf(sources, positions, size, dtype=dtype), leaf(sources, positions, value_size, dtype=dtype)
    mask = torch.rand(sources, positions, device=DEVICE) < 0.8
    past = torch.full((rows, positions), -torch.inf, device=DEVICE, dtype=wide)
    covered = leaf(rows, positions, dtype=wide), leaf(size, dtype=dtype)
    for score, coverage in ((leaf(size, dtype=dtype), covered), (leaf(size, dtype=dtype), ()), (None, ())):
        first = ops.copy_attention(leaf(rows, size, dtype=dtype), keys, values, mask, score, *coverage)
        backward(*first)
        earlier = ops.copy_attention(leaf(rows, size, dtype=dtype), keys, values, mask, score, past=past)
        backward(*ops.copy_attention(leaf(rows, size, dtype=dtype), keys, values, mask, score, past=earlier.past))


def attention_of_a_loop(sources: int, shared: int, positions: int, size: int, dtype: torch.dtype) -> None:
    """Whose gradients of keys and values are one call for all steps."""
    rows, wide = sources * shared, torch.float32 if dtype == torch.bfloat16 else dtype
    keys, values = leaf(sources, positions, size, dtype=dtype), leaf(sources, positions, size, dtype=dtype)
    mask = torch.rand(sources, positions, device=DEVICE) < 0.8
    covered = leaf(rows, positions, dtype=wide), leaf(size, dtype=dtype)
    for score, (coverage, weight) in ((leaf(size, dtype=dtype), covered), (leaf(size, dtype=dtype), (None, None))):
        attend = ops.AttentionOverSteps(keys, values, mask, score, weight)
        backward(*[attend(leaf(rows, size, dtype=dtype), coverage, None).context for _ in range(3)])


def cell(rows: int, size: int, dtype: torch.dtype) -> None:
    backward(*ops.lstm_cell(leaf(rows, 4 * size, dtype=dtype), leaf(rows, size, dtype=dtype)))


def mixture(sources: int, shared: int, positions: int, size: int, dtype: torch.dtype) -> None:
    rows = sources * shared
    ids = torch.randint(VOCABULARY + 9, (sources, positions), device=DEVICE)
    attention = torch.rand(rows, positions, device=DEVICE).softmax(-1).to(dtype).requires_grad_()
    weights = leaf(rows, size, dtype=dtype), leaf(VOCABULARY, size, dtype=dtype), leaf(VOCABULARY, dtype=dtype)
    for gate in (leaf(rows, dtype=dtype), None):
        mixed = Mixture(*weights, gate, attention, ids)
        targets = torch.randint(VOCABULARY, (rows,), device=DEVICE)
        log_probs = ops.pointer_loss(mixed, targets)
        ones = torch.ones_like(log_probs.detach())
        backward(log_probs, *(ops.weighted_pointer_loss(mixed, targets, ones, x).total for x in (None, ones)))
        noise = torch.rand(rows, device=DEVICE)
        ops.greedy_step(mixed)
        ops.sample_step(mixed, noise)
        ops.sample_step(mixed, noise, 0.7, 5, 0.9)
        beams = ops.start_beams(sources, shared, 4, like=attention)
        for step in range(4):
            beams, _, _ = ops.beam_step(mixed, beams, step, SearchRules(1.0, 2, 2))


def scores(sources: int, shared: int, time: int) -> None:
    tokens = torch.randint(30, (sources * shared, time), device=DEVICE)
    texts = [" ".join(f"w{i % 7}" for i in range(time + j)) for j in range(sources)]
    golds, lengths = (x.to(DEVICE) for x in ops.hash_words(texts, "surface"))
    table = ops.piece_table([["", "", "", "", *(f" w{i % 7}" if i % 2 else f"x{i}," for i in range(21))]], "surface")
    copies = ops.piece_table([[f"copy{j}{i}" for i in range(5)] for j in range(sources)], "surface")
    for prefixes in (False, True):
        words = ops.word_hashes(tokens, table.to(DEVICE), copies.to(DEVICE), prefixes=prefixes)
        pairs = words.hashes, words.lengths, golds, lengths
        ops.rouge_l(*pairs, prefixes=prefixes, continues=words.continues, ends=words.ends)
        for n in (1, 2, 3):
            ops.rouge_n(*pairs, n, prefixes=prefixes, continues=words.continues, ends=words.ends)


if __name__ == "__main__":
    main()
