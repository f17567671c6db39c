"""Training on a model's own outputs as inputs, against exposure bias: what it reads while gold targets are scored.

A first pass writes: at each step after the first, the model's own next word takes the place of the gold one with the
scheduled probability. The loss is then that of teacher forcing with these inputs. Where they are mixtures of embeddings
they have gradients, and the loss reaches the earlier steps through them.

The first pass of a recurrent model goes step by step, and reads what it has written. That of a Transformer is one of
teacher forcing, all steps at once, so each of its words follows gold ones (Mihaylova and Martins 2019,
arXiv:1906.07651).
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softmax

from rlseq2seq import ops
from rlseq2seq.config.training import ExposureConfig
from rlseq2seq.models.protocol import Memory, Seq2Seq, State, repeat_rows
from rlseq2seq.objectives.schedule import scheduled
from rlseq2seq.objectives.scoring import teacher_forced
from rlseq2seq.ops import Mixture
from rlseq2seq.token_ids import START, UNKNOWN


def decoder_inputs(
    model: Seq2Seq[Memory, State], memory: Memory, targets: Tensor, step: int, config: ExposureConfig
) -> Tensor | None:
    """What the decoder reads at training step ``step``, [N, T, E], where ``targets`` [N, T] are gold; None for these.

    - ``none``: the gold targets.
    - ``scheduled_sampling``: tokens that the model writes, ``sampled`` or ``greedy`` (Bengio et al. 2015,
      arXiv:1506.03099).
    - ``soft``: the mean embedding under softmax(alpha (s + noise)), where s are log-probabilities and the noise, if
      any, is Gumbel(0, 1) and enters this input alone (Goyal et al. 2017, arXiv:1704.06970).
    - ``e2e_backprop``: the mean embedding of the k most probable tokens, weighed by their probabilities, which are
      made to sum to 1 (Ranzato et al. 2016, arXiv:1511.06732, "end-to-end backprop"). ``soft`` selection takes, for the
      i-th of them, softmax(-alpha (s - s_i)^2) in place of its one-hot (Goyal et al. 2018, arXiv:1708.00111), so that
      the choice has a gradient too.

    The distribution is the ``final`` one, copies included, which count as the unknown word, or that of ``generation``.
    """
    probability = scheduled(config.probability, step)
    if config.method == "none" or probability == 0:
        return None
    own = torch.rand(targets.shape, device=targets.device) < probability
    if config.method == "scheduled_sampling":
        tokens = _own_tokens_at_once if model.parallel else _own_tokens
        return model.embed(tokens(model, memory, targets, own, config))
    mixtures = _own_mixtures_at_once if model.parallel else _own_mixtures
    return mixtures(model, memory, targets, own, partial(_mean_embedding, model, scheduled(config.alpha, step), config))


@torch.no_grad()
@ops.constant_weights()
def _own_tokens(
    model: Seq2Seq[Memory, State], memory: Memory, targets: Tensor, own: Tensor, config: ExposureConfig
) -> Tensor:
    """The tokens [N, T] that are read: the gold ones before each target, or the model's where ``own`` [N, T]."""
    tokens = [targets.new_full((len(targets),), START)]
    state = repeat_rows(model.initial_state(memory), len(targets) // len(memory[0]))
    for t in range(1, targets.shape[1]):
        mixture, state = model.step(memory, state, model.embed(tokens[-1]))
        tokens.append(torch.where(own[:, t], _chosen(mixture, config), targets[:, t - 1]))
    return torch.stack(tokens, 1)


@torch.no_grad()
def _own_tokens_at_once(
    model: Seq2Seq[Memory, State], memory: Memory, targets: Tensor, own: Tensor, config: ExposureConfig
) -> Tensor:
    """As `_own_tokens`, but that the model's own words come after gold ones."""
    tokens = torch.cat([targets.new_full((len(targets), 1), START), targets[:, :-1]], 1)
    for row, step, mixture in _after_gold(model, memory, model.embed(tokens), own):
        tokens[row, step + 1] = _chosen(mixture, config)
    return tokens


def _own_mixtures(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    targets: Tensor,
    own: Tensor,
    write: Callable[[Mixture], Tensor],
) -> Tensor:
    """What is read [N, T, E]: embeddings of gold tokens, or what ``write`` makes of the model's distributions where
    ``own`` [N, T]."""
    gold = teacher_forced(model, targets)
    inputs = [gold[:, 0]]
    state = repeat_rows(model.initial_state(memory), len(targets) // len(memory[0]))
    for t in range(1, targets.shape[1]):
        mixture, state = model.step(memory, state, inputs[-1])
        inputs.append(torch.where(own[:, t, None], write(mixture), gold[:, t]))
    return torch.stack(inputs, 1)


def _own_mixtures_at_once(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    targets: Tensor,
    own: Tensor,
    write: Callable[[Mixture], Tensor],
) -> Tensor:
    """As `_own_mixtures`, but that the model's distributions are those after gold words."""
    gold = inputs = teacher_forced(model, targets)
    for row, step, mixture in _after_gold(model, memory, gold, own):
        inputs = inputs.index_put((row, step + 1), write(mixture))
    return inputs


def _after_gold(
    model: Seq2Seq[Memory, State], memory: Memory, gold: Tensor, own: Tensor
) -> Iterator[tuple[Tensor, Tensor, Mixture]]:
    """The places (row, step) before those that are ``own`` [N, T], and the distributions there after inputs ``gold``
    [N, T, E]: as many at a time as there are texts, as all of them over a vocabulary would fill the memory."""
    steps = model.all_steps(memory, gold)
    rows, places = own[:, 1:].nonzero(as_tuple=True)
    for start in range(0, len(rows), len(gold)):
        row, step = rows[start : start + len(gold)], places[start : start + len(gold)]
        yield row, step, model.mixture(memory, steps, row, step)


def _chosen(mixture: Mixture, config: ExposureConfig) -> Tensor:
    """A token [N] of each distribution that is read."""
    if config.distribution == "generation":
        mixture = mixture._replace(gate_logits=None)
    if config.tokens == "greedy":
        return ops.greedy_step(mixture).tokens
    return ops.sample_step(mixture, torch.rand(len(mixture.features), device=mixture.features.device)).tokens


def _mean_embedding(model: Seq2Seq[Memory, State], alpha: float, config: ExposureConfig, mixture: Mixture) -> Tensor:
    """[N, E], with gradients."""
    return model.embedding_mixture(_weights(_readable(mixture, config), alpha, config))


def _readable(mixture: Mixture, config: ExposureConfig) -> Mixture:
    """The distribution that is read: over the vocabulary, as a copy of a word that it lacks is read as unknown."""
    gate_logits = mixture.gate_logits if config.distribution == "final" else None
    lacking = mixture.source_ids >= len(mixture.weight)
    return mixture._replace(gate_logits=gate_logits, source_ids=mixture.source_ids.masked_fill(lacking, UNKNOWN))


def _weights(mixture: Mixture, alpha: float, config: ExposureConfig) -> Tensor:
    log_probs = ops.mixture_log_probs(mixture, len(mixture.weight))
    if config.method == "soft":
        return soft_argmax(log_probs, alpha, gumbel=config.gumbel)
    return top_k_mixture(log_probs, config.top_k, alpha if config.selection == "soft" else None)


def soft_argmax(log_probs: Tensor, alpha: float, *, gumbel: bool = False) -> Tensor:
    """softmax(alpha (s + noise)) for log-probabilities s [N, V]: near one-hot where alpha is large."""
    if gumbel:
        log_probs = log_probs - torch.empty_like(log_probs).exponential_().log()
    return softmax(alpha * log_probs, -1)


def top_k_mixture(log_probs: Tensor, k: int, alpha: float | None = None) -> Tensor:
    """Weights [N, V] of the ``k`` most probable tokens of log-probabilities [N, V], which sum to 1.

    With ``alpha``, each is spread over the tokens that are about as probable.
    """
    best, tokens = log_probs.topk(min(k, log_probs.shape[1]), -1)
    shares = softmax(best, -1)
    if alpha is None:
        return torch.zeros_like(log_probs).scatter(1, tokens, shares)
    weights = torch.zeros_like(log_probs)
    for score, share in zip(best.unbind(1), shares.unbind(1), strict=True):
        weights = weights + share[:, None] * softmax(-alpha * (log_probs - score[:, None]) ** 2, -1)
    return weights
