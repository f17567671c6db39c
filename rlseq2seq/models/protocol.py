"""Where models meet decoders and objectives: encode, initial state, one step, all steps.

Everything is batch-first. A memory has a row for each of B sources, a state one for each of N hypotheses, N / B of each
source in a row: hypothesis n belongs to source n // (N / B). So several samples or beams share what is remembered.
"""

from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from rlseq2seq.ops.contracts import Mixture

# Named tuples of tensors: what a model remembers of the sources, and of hypotheses. The first tensor of a memory has a
# row for each source; every tensor of a state has one for each hypothesis.
Memory = TypeVar("Memory", bound=tuple[Tensor, ...])
State = TypeVar("State", bound=tuple[Tensor, ...])
Rows = TypeVar("Rows", bound=tuple[Tensor, ...])


class Steps(NamedTuple):
    """Next-token distributions of N rows at T steps, before the output layer.

    Attributes:
        features: [N, T, F].
        gate_logits: [N, T], or None for a model that cannot copy.
        attention: [N, T, S], the copy distribution.
        coverage_loss: [N, T], sum over the source of min(attention, coverage); 0 where coverage is off.
    """

    features: Tensor
    gate_logits: Tensor | None
    attention: Tensor
    coverage_loss: Tensor


class Seq2Seq(Protocol[Memory, State]):
    """An encoder-decoder with a pointer-generator head.

    ``parallel`` tells that `all_steps` reads all inputs at once, in less time than one after the other.
    """

    parallel: bool
    uses_coverage: bool
    feature_size: int
    vocabulary_size: int

    def encode(self, sources: Tensor, lengths: Tensor) -> Memory:
        """Read ``sources`` [B, S] (extended ids, padded) of ``lengths`` [B], once however many outputs follow."""

    def initial_state(self, memory: Memory) -> State:
        """The state before the first token, a hypothesis for each source."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [..., E] of ``tokens`` [...] (extended ids: those that only a source has are unknown)."""

    def embedding_mixture(self, weights: Tensor) -> Tensor:
        """The sums [..., E] of the embeddings of all tokens, weighed by ``weights`` [..., V or more]: a one-hot row
        gives what `embed` gives."""

    def step(self, memory: Memory, state: State, inputs: Tensor) -> tuple[Mixture, State]:
        """Read ``inputs`` [N, E], embeddings or mixtures of them, after N states and say what comes next.

        Without gradients it may write into ``state``, which is then no longer what it was: go on from the one returned.
        """

    def all_steps(self, memory: Memory, inputs: Tensor) -> Steps:
        """Read ``inputs`` [N, T, E] from the initial state on: the same as T calls of `step`, in one."""

    def mixture(self, memory: Memory, steps: Steps, row: Tensor, step: Tensor) -> Mixture:
        """The distributions at the places (``row`` [M], ``step`` [M]) of ``steps``."""


def select_rows(rows: Rows, index: Tensor) -> Rows:
    """The rows ``index`` [N] of a state, or of a memory whose every tensor has rows."""
    return type(rows)._make(tensor.index_select(0, index) for tensor in rows)  # type: ignore[attr-defined,no-any-return]


def repeat_rows(rows: Rows, times: int) -> Rows:
    """Each row ``times`` times in a row: row i becomes rows i * times to (i + 1) * times - 1."""
    return type(rows)._make(tensor.repeat_interleave(times, 0) for tensor in rows)  # type: ignore[attr-defined,no-any-return]
