import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlseq2seq.models.encoder import BidirectionalLSTM

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def make_encoder(device: torch.device) -> BidirectionalLSTM:
    torch.manual_seed(0)
    return BidirectionalLSTM(3, 4).double().to(device)


def make_inputs(lengths: list[int], device: torch.device, width: int = 6) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(len(lengths), width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return inputs.to(device), torch.tensor(lengths, device=device)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_encoder_is_the_packed_bidirectional_lstm(device: torch.device, lengths: list[int]) -> None:
    encoder = make_encoder(device)
    packed = nn.LSTM(3, 4, batch_first=True, bidirectional=True).double().to(device)
    with torch.no_grad():
        for name, parameter in packed.named_parameters():
            lstm = encoder.backward_lstm if name.endswith("_reverse") else encoder.forward_lstm
            parameter.copy_(getattr(lstm, name.removesuffix("_reverse")))
    inputs, rows = make_inputs(lengths, device)
    output, (last, _) = packed(pack_padded_sequence(inputs, rows.cpu(), batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(output, batch_first=True, total_length=6)
    states, final = encoder(inputs, rows)
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(final, torch.cat([last[0], last[1]], 1))


@settings(max_examples=25)
@given(LENGTHS)
def test_padding_changes_nothing_and_its_states_are_zero(device: torch.device, lengths: list[int]) -> None:
    encoder = make_encoder(device)
    inputs, rows = make_inputs(lengths, device)
    states, final = encoder(inputs, rows)
    padding = torch.arange(6, device=device) >= rows[:, None]
    assert states[padding].eq(0).all()
    other = inputs.clone()
    other[padding] = 7.0
    wider = torch.cat([other, other], 1)
    for changed in (other, wider):
        changed_states, changed_final = encoder(changed, rows)
        torch.testing.assert_close(changed_states[:, :6], states)
        torch.testing.assert_close(changed_final, final)


def test_empty_sources_have_a_final_state_of_zero(device: torch.device) -> None:
    encoder = make_encoder(device)
    states, final = encoder(*make_inputs([0, 3, 0], device))
    assert final[[0, 2]].eq(0).all() and final[1].ne(0).all() and states[0].eq(0).all()
    states, final = encoder(*make_inputs([0, 0], device, width=0))
    assert states.shape == (2, 0, 8) and final.shape == (2, 8) and final.eq(0).all()
