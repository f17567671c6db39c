import torch

from rlseq2seq.decoding.hypotheses import cut_at_end, may_stop, token_lengths
from rlseq2seq.token_ids import END, PAD

TOKENS = torch.tensor([[5, END, 6, END], [END, 5, 5, 5], [5, 6, 7, 8], [5, 6, 7, END], [PAD, 5, END, PAD]])


def test_a_length_counts_the_first_end_token_and_nothing_after_it(device: torch.device) -> None:
    assert token_lengths(TOKENS.to(device)).tolist() == [2, 1, 4, 4, 3]
    assert token_lengths(TOKENS[:, :0].to(device)).tolist() == [0] * 5
    assert token_lengths(TOKENS[:0].to(device)).tolist() == []


def test_what_follows_the_end_becomes_padding(device: torch.device) -> None:
    tokens = TOKENS.to(device)
    assert cut_at_end(tokens, token_lengths(tokens)).tolist() == [
        [5, END, PAD, PAD],
        [END, PAD, PAD, PAD],
        [5, 6, 7, 8],
        [5, 6, 7, END],
        [PAD, 5, END, PAD],
    ]


def test_decoding_may_stop_once_every_row_has_finished() -> None:
    assert may_stop(torch.tensor([True, True]), 0)
    assert not may_stop(torch.tensor([True, False]), 7)


def test_a_device_that_works_apart_is_rarely_asked() -> None:
    # A tensor of the device meta has no values: asking for one is an error.
    finished = torch.ones(2, dtype=torch.bool, device="meta")
    assert [may_stop(finished, step) for step in range(7)] == [False] * 7
