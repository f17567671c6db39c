"""A bidirectional LSTM encoder."""

import torch
from torch import Tensor, nn


class BidirectionalLSTM(nn.Module):
    """Two LSTMs, one over each source and one over its reverse.

    Padding is kept out by reversing each row within its own length, not by packing: packed sequences leave the fused
    kernels and are several times slower on a CPU (docs/performance.md).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, S, 2H] and the last hidden state of both directions [B, 2H] for ``inputs`` [B, S, E].

        States past a row's length are 0; a row of length 0 has a last hidden state of 0.
        """
        if inputs.shape[1] == 0:
            states = inputs.new_zeros(*inputs.shape[:2], 2 * self.forward_lstm.hidden_size)
            return states, states.new_zeros(len(inputs), states.shape[2])
        place = torch.arange(inputs.shape[1], device=inputs.device)
        inside = (place < lengths[:, None])[:, :, None]
        mirrored = torch.where(inside[:, :, 0], lengths[:, None] - 1 - place, place)[:, :, None]
        forward, _ = self.forward_lstm(inputs)
        backward, _ = self.backward_lstm(inputs.gather(1, mirrored.expand_as(inputs)))
        last = (lengths - 1).clamp_min(0)[:, None, None].expand(-1, 1, forward.shape[2])
        final = torch.cat([forward.gather(1, last), backward.gather(1, last)], 2)[:, 0] * (lengths > 0)[:, None]
        states = torch.cat([forward, backward.gather(1, mirrored.expand_as(backward))], 2) * inside
        return states, final
