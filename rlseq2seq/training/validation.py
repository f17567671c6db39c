"""Loss of a model on held-out pairs, and how good what it writes there is."""

import torch
from sacrebleu.metrics.bleu import BLEU

from rlseq2seq.config.training import ValidationConfig
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
    model: Seq2Seq[Memory, State],
    vocabulary: Vocabulary,
    store: TokenStore,
    config: ValidationConfig,
    device: torch.device,
) -> dict[str, float]:
    """Scores on the first ``config.pairs`` pairs, decoded greedily.

    ``validation_loss``: -log p(y* | x) a token. ``validation_rouge_l``: the mean ROUGE-L F, in percent, of surface
    words (so that rows of punctuation cost what they should). ``validation_bleu``, where that is the metric: BLEU of
    the texts as one corpus, by sacrebleu; as in the evaluation, case counts unless the model writes lower case only.
    """
    log_prob = tokens = rouge = 0.0
    outputs: list[str] = []
    targets: list[str] = []
    for rows in in_length_order(store, config.pairs, _BATCH_SIZE):
        batch = make_batch(store, rows, device)
        memory = model.encode(batch.sources, batch.source_lengths)
        scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
        log_prob += scored.log_probs.double().sum().item()
        tokens += len(scored.row)
        found = greedy(model, memory, vocabulary.config.max_target_tokens)
        texts = vocabulary.decode_rows(found.tokens.tolist(), batch.copies)
        rouge += rouge_l_of_texts(texts, batch.target_texts, "surface").fmeasure.double().sum().item()
        outputs += texts
        targets += batch.target_texts
    scores = {"validation_loss": -log_prob / tokens, "validation_rouge_l": 100 * rouge / len(outputs)}
    if config.metric == "bleu":
        judge = BLEU(lowercase=vocabulary.config.lowercase, force=True)
        scores["validation_bleu"] = judge.corpus_score(outputs, [targets]).score
    return scores
