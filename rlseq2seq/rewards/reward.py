"""The reward that params.yaml says: a weighted sum of terms."""

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.config.reward import RewardConfig, Term
from rlseq2seq.data.batches import Batch
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.ngrams import copy_rate, novelty, repetition
from rlseq2seq.rewards.overlap import bleu, chrf, length, rouge
from rlseq2seq.rewards.units import Compared, characters, make_units
from rlseq2seq.rewards.user_function import UserFunction
from rlseq2seq.token_ids import END


class WeightedReward:
    """Token ids -> rewards of what they spell before the first end token: the sum of terms times their weights.

    All terms but ``function`` are measured on the device that the ids are on, and of these only stemmed words are
    waited for: no text is made. Rows do not depend on each other: N / B rows in a row belong to each of B sources.

    Raises:
        UserError: for a function that cannot be used, as `UserFunction`.
    """

    def __init__(self, vocabulary: Vocabulary, config: RewardConfig, workers: int) -> None:
        """``workers``: processes that call the user's function."""
        self._vocabulary, self._config, self._weights = vocabulary, config, config.weights()
        self._units = make_units(vocabulary, config.words)
        self._characters = characters(vocabulary, config.words)
        self._function = UserFunction(config.function, workers) if config.function is not None else None

    def __call__(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Rewards [N], float32, of ``tokens`` [N, T]."""
        return self._sum(tokens, batch, prefixes=False)

    def prefixes(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Rewards [N, T] of what the tokens up to each one spell, an unfinished word as if it ended there.

        From the end token on, they repeat the reward of the whole. A user's function is called for each prefix.
        """
        return self._sum(tokens, batch, prefixes=True)

    def _sum(self, tokens: Tensor, batch: Batch, *, prefixes: bool) -> Tensor:
        words = Compared(self._units, tokens, batch, prefixes=prefixes)
        terms = [weight * self._term(name, words, tokens, batch, prefixes) for name, weight in self._weights.items()]
        return torch.stack(terms).sum(0)

    def _term(self, name: Term, words: Compared, tokens: Tensor, batch: Batch, prefixes: bool) -> Tensor:
        match name:
            case "bleu":
                return bleu(words)
            case "chrf":
                return chrf(Compared(self._characters, tokens, batch, prefixes=prefixes))
            case "length":
                return length(words, self._config.target_words)
            case "repetition":
                return repetition(words, self._config.ngram)
            case "novelty":
                return novelty(words, self._config.ngram)
            case "copy_rate":
                return copy_rate(words)
            case "function":
                return self._of_texts(tokens, batch, prefixes)
        return rouge(words, name, self._config.measure, self._config.beta)

    def _of_texts(self, tokens: Tensor, batch: Batch, prefixes: bool) -> Tensor:
        """What the user's function gives for [N] texts, or for those of [N, T] prefixes."""
        assert self._function is not None
        rows, sources = tokens.tolist(), batch.sources.tolist()
        sources = self._vocabulary.decode_rows(sources, batch.copies)
        each, width = len(rows) // len(sources), tokens.shape[1]
        texts = []
        for row, ids in enumerate(rows):
            source = row // each
            pair = batch.target_texts[source], sources[source]
            # From the end token on, all prefixes spell the whole.
            whole = ids.index(END) + 1 if END in ids else width
            ends = range(1, whole + 1) if prefixes else [whole]
            spelled = [(self._vocabulary.decode(ids[:end], batch.copies[source]), *pair) for end in ends]
            texts += spelled + spelled[-1:] * (width - whole if prefixes else 0)
        rewards = torch.tensor(self._function(texts)).view(len(rows), -1)
        return ops.to_device(rewards if prefixes else rewards[:, 0], tokens.device)
