"""What any model says of a batch, for tests."""

from typing import Any

import torch
from torch import Tensor

from rlseq2seq.data.batches import Batch
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.token_ids import START

SIZE, COPIES = 9, 2


def encode(model: PointerModel, batch: Batch) -> Any:
    return model.encode(batch.sources, batch.source_lengths)


@torch.no_grad()
def step_by_step(model: PointerModel, memory: Any, targets: Tensor) -> Tensor:
    """All log-probabilities [B, T, SIZE + COPIES], one call of `step` after the other."""
    state, found = model.initial_state(memory), []
    for tokens in [torch.full_like(targets[:, 0], START), *targets[:, :-1].unbind(1)]:
        mixture, state = model.step(memory, state, model.embed(tokens))
        found.append(mixture_log_probs(mixture, SIZE + COPIES))
    return torch.stack(found, 1)


@torch.no_grad()
def teacher_forced(model: PointerModel, batch: Batch) -> Tensor:
    """Log-probabilities [B, T] of the targets, 0 at padding."""
    scored = score_tokens(model, encode(model, batch), batch.targets, batch.target_lengths)
    found = scored.log_probs.new_zeros(batch.targets.shape)
    found[torch.arange(batch.targets.shape[1], device=found.device) < batch.target_lengths[:, None]] = scored.log_probs
    return found
