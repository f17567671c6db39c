"""Maximum likelihood of gold targets, with label smoothing, and coverage loss."""

import torch
from torch import Tensor

from rlseq2seq.data.batches import Batch
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.scoring import score_tokens


def maximum_likelihood(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    batch: Batch,
    coverage_weight: float,
    inputs: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Loss:
    """-log p(y* | x) a token, plus coverage loss (See et al. 2017, arXiv:1704.04368, Eq. 12 and 13).

    With ``label_smoothing`` e in [0, 1) the first is (1 - e) (-log p(y* | x)) + e (logsumexp(z) - mean(z)), z being the
    logits of the words that can be generated: the cross-entropy with (1 - e) of the target and e / V of every word
    (Szegedy et al. 2016, arXiv:1512.00567), exactly where a model does not copy. Copying is not smoothed. The fact
    ``nll`` stays -log p(y* | x).

    The model reads ``inputs`` (`decoder_inputs`), the gold targets where None.
    """
    scored = score_tokens(model, memory, batch.targets, batch.target_lengths, inputs)
    each = scored.mixture.features.new_full((len(scored.row),), -1 / len(scored.row))
    found = scored.weighted(each * (1 - label_smoothing), smoothing_weight=-label_smoothing / len(scored.row))
    facts = {"nll": torch.dot(each.to(found.log_probs), found.log_probs)}
    if not model.uses_coverage:
        return Loss(found.total, facts, len(scored.row))
    coverage_loss = scored.coverage_loss.mean()
    facts["coverage_loss"] = coverage_loss.detach()
    return Loss(found.total + coverage_weight * coverage_loss, facts, len(scored.row))
