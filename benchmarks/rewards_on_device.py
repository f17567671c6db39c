"""Words and ROUGE of samples that lie on a GPU: there, by PyTorch there, and on the CPU with both transfers.

    python -m benchmarks.rewards_on_device

Samples of 32 sources, as a policy gradient has them, and as many as keep a GPU busy. PyTorch's way is the textbook
programme for the whole batch (`rlseq2seq/ops/reference_rouge.py`); it has none for words, whose pieces are strings.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, Row, medians, print_rows, ratios
from rlseq2seq import ops
from rlseq2seq.ops import PieceTable, reference_rouge

SOURCES, TOKENS, VOCABULARY = 32, 100, 8000
SAMPLES = (320, 4096)
EAGER, HOST = "eager PyTorch", "the CPU, with transfers"
# Of a device the project asks for three times eager, and that a reward is not to be had sooner elsewhere.
BARS: dict[str, float | None] = {EAGER: 3.0, HOST: 1.0}
CPU = torch.device("cpu")


def samples(rows: int) -> list[Tensor]:
    """Samples, their lengths, references and theirs: half of a sample's tokens are the reference's at that place."""
    draw = torch.Generator().manual_seed(0)
    references = torch.randint(4, VOCABULARY, (SOURCES, TOKENS), generator=draw)
    others = torch.randint(4, VOCABULARY, (rows, TOKENS), generator=draw)
    copied = torch.rand(rows, TOKENS, generator=draw) < 0.5
    tokens = torch.where(copied, references.repeat_interleave(rows // SOURCES, 0), others)
    lengths = [torch.randint(40, TOKENS + 1, (count,), generator=draw) for count in (rows, SOURCES)]
    return [x.to(DEVICE) for x in (tokens, lengths[0], references, lengths[1])]


def tables() -> tuple[PieceTable, PieceTable]:
    """Pieces of which two in three begin a word, and five copies a source."""
    pieces = [f" w{i}" if i % 3 else f"x{i}" for i in range(VOCABULARY - 4)]
    copies = [[f"copy{j}x{i}" for i in range(5)] for j in range(SOURCES)]
    return ops.piece_table([["", "", "", "", *pieces]], "surface"), ops.piece_table(copies, "surface")


def on_host(work: Callable[..., tuple[Tensor | None, ...]], inputs: list[Tensor]) -> None:
    """What it takes where the device has no kernel."""
    for x in work(*(x.to(CPU) for x in inputs)):
        if x is not None:
            x.to(DEVICE)


def words(rows: int) -> list[Row]:
    here, there = tables(), tuple(table.to(DEVICE) for table in tables())
    tokens, table = samples(rows)[0], []
    for prefixes, what in ((False, "words"), (True, "words and their prefixes")):
        contenders = {
            "ours": partial(ops.word_hashes, tokens, *there, prefixes=prefixes),
            HOST: partial(on_host, lambda x, p=prefixes: ops.word_hashes(x, *here, prefixes=p), [tokens]),
        }
        work = f"word_hashes, {what} of {rows} samples of {TOKENS} ids"
        table += ratios(work, medians(work, contenders), {HOST: BARS[HOST]})
    return table


def scores(rows: int) -> list[Row]:
    inputs, table = samples(rows), []
    for prefixes, n in ((False, 0), (True, 0), (False, 2), (True, 2)):
        ours = partial(ops.rouge_n, n=n, prefixes=prefixes) if n else partial(ops.rouge_l, prefixes=prefixes)
        twin = partial(reference_rouge.rouge_n, n=n) if n else reference_rouge.rouge_l
        contenders = {
            "ours": partial(ours, *inputs),
            EAGER: partial(twin, *inputs, prefixes=prefixes),
            HOST: partial(on_host, ours, inputs),
        }
        what = "all prefixes of " if prefixes else ""
        work = f"ROUGE-{n or 'L'} of {what}{rows} samples of 40 to {TOKENS} ids"
        table += ratios(work, medians(work, contenders), BARS)
    return table


@torch.no_grad()
def rows() -> list[Row]:
    return [row for count in SAMPLES for part in (words, scores) for row in part(count)]


if __name__ == "__main__":
    print_rows(rows())
