"""Search that a critic has a say in."""

from torch import Tensor

from rlseq2seq.decoding.beam import BeamStep
from rlseq2seq.models.critic import ActionCritic, expectation
from rlseq2seq.ops import Beams, Mixture, SearchRules, mixture_log_probs
from rlseq2seq.ops.dense_search import dense_beam_step


def guided_by(critic: ActionCritic, weight: float, extended_size: int) -> BeamStep:
    """What extends beams where a token y scores log pi(y|s) + weight A(s, y), s being the state of its own hypothesis.

    A(s, y) = Q(s, y) - sum over a of pi(a|s) Q(s, a), for the critic of Bahdanau et al. 2017 (arXiv:1607.07086). With
    gamma 1 and the true Q, these add up to the reward so far, and what is expected of the state that was reached, less
    what was expected at the start: so hypotheses of a source compare by the reward that they promise. Q itself would
    count what is still to come again at each token.

    Args:
        critic: on the device of the model.
        weight: in nats for a reward of 1.
        extended_size: V plus the copies that a source has at most. Words that a source lacks stay impossible.
    """

    def advance(mixture: Mixture, beams: Beams, step: int, rules: SearchRules) -> tuple[Beams, Tensor, Tensor]:
        log_probs = mixture_log_probs(mixture, extended_size)
        values = critic(mixture, extended_size).to(log_probs)
        advantages = values - expectation(values, log_probs)[:, None]
        return dense_beam_step(log_probs + weight * advantages, beams, step, rules)

    return advance
