"""Maximum likelihood of gold targets, and coverage loss."""

from torch import Tensor

from rlseq2seq.data.batches import Batch
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.scoring import score_tokens


def maximum_likelihood(
    model: Seq2Seq[Memory, State], memory: Memory, batch: Batch, coverage_weight: float, inputs: Tensor | None = None
) -> Loss:
    """-log p(y* | x) a token, plus coverage loss (See et al. 2017, arXiv:1704.04368, Eq. 12 and 13).

    The model reads ``inputs`` (`decoder_inputs`), the gold targets where None.
    """
    scored = score_tokens(model, memory, batch.targets, batch.target_lengths, inputs)
    each = scored.mixture.features.new_full((len(scored.row),), -1 / len(scored.row))
    nll = scored.weighted(each).total
    facts = {"nll": nll.detach()}
    if not model.uses_coverage:
        return Loss(nll, facts, len(scored.row))
    coverage_loss = scored.coverage_loss.mean()
    facts["coverage_loss"] = coverage_loss.detach()
    return Loss(nll + coverage_weight * coverage_loss, facts, len(scored.row))
