"""Loss and greedy ROUGE-L of a model on held-out pairs."""

import torch

from rlseq2seq.data.batches import in_length_order, make_batch
from rlseq2seq.data.store import TokenStore
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.rewards.rouge import rouge_l_of_texts

_BATCH_SIZE = 128


@torch.no_grad()
def validation_scores(
    model: Seq2Seq[Memory, State], vocabulary: Vocabulary, store: TokenStore, count: int, device: torch.device
) -> dict[str, float]:
    """On the first ``count`` pairs: ``validation_loss``, -log p(y* | x) a token, and ``validation_rouge_l``, in
    percent, of surface words (so that rows of punctuation cost what they should)."""
    log_prob = tokens = rouge = pairs = 0.0
    for rows in in_length_order(store, count, _BATCH_SIZE):
        batch = make_batch(store, rows, device)
        memory = model.encode(batch.sources, batch.source_lengths)
        scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
        log_prob += scored.log_probs.double().sum().item()
        tokens += len(scored.row)
        found = greedy(model, memory, vocabulary.config.max_target_tokens)
        texts = vocabulary.decode_rows(found.tokens.tolist(), batch.copies)
        rouge += rouge_l_of_texts(texts, batch.target_texts, "surface").fmeasure.double().sum().item()
        pairs += len(rows)
    return {"validation_loss": -log_prob / tokens, "validation_rouge_l": 100 * rouge / pairs}
