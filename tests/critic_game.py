"""A game small enough that the value of every move is known, and critics for it."""

from functools import cache
from math import nan
from typing import Any

import torch
from objective_cases import EXTENDED, MAX_TOKENS, SIZE, finetune_config, make_setting, make_table, odd_rewards
from tiny import TableModel, every_sequence
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.critic import ActionCritic, StateCritic
from rlseq2seq.objectives.actor_critic import ActorCritic
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import Mixture, mixture_log_probs
from rlseq2seq.token_ids import END, UNKNOWN

State = tuple[int, tuple[int, ...]]  # a source, and what is written

# As many rows of a table as keep all states of texts of so many tokens apart.
_CONTEXTS = {2: 24, 3: 152}


def critic_config(**changes: Any) -> FinetuneConfig:
    """Parameters of actor-critic for the game: a linear critic, which on its features is a table, with no warm-up."""
    plain = {
        "layers": [],
        "dueling": False,
        "warmup_updates": 0,
        "updates": 1,
        "variance_penalty": 0.0,
        "replay__half_precision": False,
    }
    return finetune_config("actor_critic", **{f"critic__{name}": value for name, value in plain.items()} | changes)


def make_game(
    device: torch.device, max_tokens: int = MAX_TOKENS, sharpness: float = 0.2, seed: int = 0
) -> tuple[TableModel, Batch]:
    """The table model and its two sources, but no two states look the same, and by default all moves are likely."""
    model, batch = make_table(device, seed, _CONTEXTS[max_tokens])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(sharpness)
        # A word is generated four times out of five: as likely as a copy.
        model.gate.add_(1.5)
    return model, batch


def acting(model: Any, config: FinetuneConfig, **others: Any) -> ActorCritic:
    """The objective, what it keeps in the model's type and on its device; ``others`` as of `make_setting`."""
    method = ActorCritic(make_setting(model, **others), config)
    method.state.to(next(model.parameters()))
    return method


def read(model: Any, batch: Batch) -> Any:
    return model.encode(batch.sources, batch.source_lengths)


def worth(written: tuple[int, ...]) -> float:
    return odd_rewards(torch.tensor([written]))[0, -1].item() if written else 0.0


def is_over(written: tuple[int, ...], max_tokens: int) -> bool:
    return len(written) == max_tokens or written[-1:] == (END,)


class Game:
    """All states that a table model can come into, in order; the mixture of them; what it does in each."""

    def __init__(self, model: TableModel, batch: Batch, max_tokens: int = MAX_TOKENS) -> None:
        self.max_tokens = max_tokens
        tokens, lengths = (t.to(batch.sources.device) for t in every_sequence(EXTENDED, max_tokens))
        rows = len(batch.rows)
        with torch.no_grad():
            scored = score_tokens(model, read(model, batch), tokens.repeat(rows, 1), lengths.repeat(rows))
        place: dict[State, int] = {}
        for i, (row, step) in enumerate(zip(scored.row.tolist(), scored.step.tolist(), strict=True)):
            source, text = divmod(row, len(tokens))
            written = tuple(tokens[text, :step].tolist())
            if set(written) <= {*range(SIZE), *batch.sources[source].tolist()}:
                place.setdefault((source, written), i)
        self.states, at = list(place), torch.tensor(list(place.values()), device=tokens.device)
        mixture = scored.mixture
        assert mixture.gate_logits is not None
        attention, source_ids = mixture.attention[at], mixture.source_ids[at]
        self.mixture = Mixture(
            mixture.features[at], mixture.weight, mixture.bias, mixture.gate_logits[at], attention, source_ids
        )
        contexts = self.mixture.features.argmax(1).tolist()
        assert len(set(contexts)) == len(self.states)
        self.seen_as = dict(zip(contexts, self.states, strict=True))
        probs = mixture_log_probs(self.mixture, EXTENDED).exp().tolist()
        self.probs = dict(zip(self.states, probs, strict=True))

    def action_values(self, gamma: float = 1.0, *, optimal: bool = False) -> Tensor:
        """Q [M, X] of the policy, or of the best one, by dynamic programming; nan where a word is impossible."""

        @cache
        def of(state: State) -> list[float]:
            source, written = state
            return [
                self.reward(written, token) + gamma * value((source, (*written, token))) if prob > 0 else nan
                for token, prob in enumerate(self.probs[state])
            ]

        @cache
        def value(state: State) -> float:
            if is_over(state[1], self.max_tokens):
                return 0.0
            possible = [(prob, q) for prob, q in zip(self.probs[state], of(state), strict=True) if prob > 0]
            return max(q for _, q in possible) if optimal else sum(prob * q for prob, q in possible)

        return self._tensor([of(state) for state in self.states])

    def state_values(self, gamma: float = 1.0) -> Tensor:
        """V [M] of the policy."""
        probs = self._tensor([self.probs[state] for state in self.states])
        return (probs * self.action_values(gamma).nan_to_num()).sum(1)

    def reward(self, written: tuple[int, ...], token: int) -> float:
        """What a word adds."""
        return worth((*written, token)) - worth(written)

    def _tensor(self, values: list[list[float]]) -> Tensor:
        return torch.tensor(values).to(self.mixture.features)


@torch.no_grad()
def teach(critic: ActionCritic | StateCritic, game: Game, values: Tensor) -> None:
    """Let a linear critic say ``values`` of the states of ``game``: Q [M, X] or V [M]."""
    if isinstance(critic, StateCritic):
        _fit(critic.value, critic.hidden(game.mixture.features), values[:, None])
        return
    hidden, q = critic.hidden(game.mixture.features), values.nan_to_num()
    words = q[:, :SIZE]
    _fit(critic.actions, hidden, words)
    if critic.value is not None:
        _fit(critic.value, hidden, words.mean(1, keepdim=True))
    attended = (game.mixture.attention * (game.mixture.source_ids == SIZE)).sum(1)
    more = torch.where(attended > 0, (q[:, SIZE] - q[:, UNKNOWN]) / attended, 0)
    _fit(critic.copies, hidden, more[:, None])


def _fit(layer: nn.Linear, inputs: Tensor, outputs: Tensor) -> None:
    layer.weight.copy_((torch.linalg.pinv(inputs) @ outputs).T)
    layer.bias.zero_()


@torch.no_grad()
def scramble(module: nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Random weights."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
