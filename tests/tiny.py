"""Small texts, models, mixtures and batches for tests."""

import random
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq.config.model import AttentionConfig, HeadConfig, ModelConfig, TransformerConfig
from rlseq2seq.config.reward import AddedTerms, RewardConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.batches import Batch, pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.protocol import Steps, repeat_rows
from rlseq2seq.models.saved import new_model
from rlseq2seq.models.transformer import Transformer
from rlseq2seq.ops import Mixture, SearchRules, beam_step, start_beams
from rlseq2seq.token_ids import END, PAD, UNKNOWN

_TEXT = "return compute the a sum mean of values rows columns from given array list , . axis along split join"
WORDS = _TEXT.split()


ATTENTIONS = [
    AttentionConfig(score, temporal, intra_decoder)
    for score, temporal, intra_decoder in product(("additive", "bilinear"), (False, True), (False, True))
]


class Variant(NamedTuple):
    """A legal combination of what an LSTM may be; ``grows`` tells of its decoding state."""

    attention: AttentionConfig
    output_weights: str
    copy: bool
    coverage: bool

    @property
    def grows(self) -> bool:
        return self.attention.intra_decoder

    def model(self, vocabulary_size: int, seed: int = 0, **changes: Any) -> PointerGenerator:
        return tiny_model(vocabulary_size, seed, **{**self._asdict(), **changes})


VARIANTS = [
    Variant(attention, output_weights, copy, coverage)
    for attention, output_weights, copy, coverage in product(
        ATTENTIONS, ("tied", "projected", "separate"), (True, False), (False, True)
    )
    if attention.score == "additive" or not coverage
]


class TransformerVariant(NamedTuple):
    """A legal combination of what a Transformer may be."""

    positions: str
    copy_head: HeadConfig | None
    output_weights: str
    copy: bool

    coverage, grows = False, False

    def model(self, vocabulary_size: int, seed: int = 0, **changes: Any) -> Transformer:
        return tiny_transformer(vocabulary_size, seed, **{**self._asdict(), **changes})


TRANSFORMERS = [
    TransformerVariant(positions, copy_head, output_weights, copy)
    for positions, copy_head, output_weights, copy in product(
        ("rotary", "learned"),
        (None, HeadConfig(1, 2), HeadConfig(2, 1)),
        ("tied", "projected", "separate"),
        (True, False),
    )
    if copy or copy_head is None
]
MODELS = [*VARIANTS, *TRANSFORMERS]


def sentences(count: int = 200) -> list[str]:
    chooser = random.Random(0)
    return [" ".join(chooser.choices(WORDS, k=chooser.randint(3, 9))) for _ in range(count)]


def tokenization_config(**changes: Any) -> TokenizationConfig:
    config = TokenizationConfig(
        type="unigram",
        vocabulary_size=80,
        vocabulary_file=None,
        lowercase=True,
        split_identifiers=True,
        split_punctuation=True,
        max_source_tokens=20,
        max_target_tokens=8,
        word_vectors=None,
    )
    return replace(config, **changes)


@cache
def char_vocabulary() -> Vocabulary:
    """Characters, and no limit to what a source holds: any text can be read as it is."""
    config = tokenization_config(type="char", vocabulary_size=30, max_source_tokens=200)
    return Vocabulary.train(sentences(), sentences(), config)


def reward_config(*, add: dict[str, float] | None = None, **changes: Any) -> RewardConfig:
    """ROUGE-L F1 of surface words, with these terms added."""
    none = dict.fromkeys((field.name for field in fields(AddedTerms)), 0.0)
    config = RewardConfig(
        metric="rouge_l",
        measure="fmeasure",
        beta=1.0,
        words="surface",
        ngram=2,
        target_words=None,
        add=AddedTerms(**none | (add or {})),
        function=None,
    )
    return replace(config, **changes)


_CONFIG = ModelConfig(
    architecture="lstm",
    embedding_size=5,
    dropout=0.0,
    output_weights="tied",
    copy=True,
    encoder_size=4,
    decoder_size=6,
    attention_size=3,
    attention=ATTENTIONS[0],
    transformer=TransformerConfig(layers=2, heads=2, feed_forward_size=7, positions="rotary", copy_head=None),
)


def tiny_model(
    vocabulary_size: int, seed: int = 0, *, coverage: bool = False, dtype: torch.dtype = torch.float64, **changes: Any
) -> PointerGenerator:
    """A pointer-generator in evaluation mode with random, large weights, half of whose outputs end by themselves."""
    model = PointerGenerator(replace(_CONFIG, **changes), vocabulary_size)
    model.uses_coverage = coverage
    return _with_large_weights(model, seed, dtype)


def tiny_transformer(
    vocabulary_size: int,
    seed: int = 0,
    *,
    positions: str = "rotary",
    copy_head: HeadConfig | None = None,
    dtype: torch.dtype = torch.float64,
    **changes: Any,
) -> Transformer:
    """A Transformer likewise, for sources of up to 20 tokens and outputs of up to 8."""
    shape = replace(_CONFIG.transformer, positions=positions, copy_head=copy_head)
    config = replace(_CONFIG, **{"architecture": "transformer", "embedding_size": 8, "transformer": shape, **changes})
    return _with_large_weights(new_model(config, vocabulary_size, tokenization_config()), seed, dtype)


def _with_large_weights(model: Any, seed: int, dtype: torch.dtype) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.to(dtype).eval().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
        model.output.bias[END] += 2
        if model.gate is not None:
            model.gate.bias += 2
    if torch.cuda.is_available() and isinstance(model, PointerGenerator):
        model.encoder.train()  # of LSTMs, cuDNN gives gradients in training mode alone; without dropout it is the same
    return model


def random_batch(
    seed: int, vocabulary_size: int, *, size: int = 4, width: int = 6, copies: int = 2, empty: bool = False
) -> Batch:
    """Pairs of random ids and lengths, whose sources and targets hold extended ids if ``copies`` is above 0.

    As in a store, a target that only another source could copy is unknown. The last source is empty if ``empty``.
    """
    generator = torch.Generator().manual_seed(seed)

    def ids() -> tuple[Tensor, Tensor]:
        values = torch.randint(END + 1, vocabulary_size + copies, (size, width), generator=generator)
        lengths = torch.randint(1, width + 1, (size,), generator=generator)
        return values, lengths

    sources, source_lengths = ids()
    targets, target_lengths = ids()
    if empty:
        source_lengths[-1] = 0
    place = torch.arange(width)
    sources[place >= source_lengths[:, None]] = PAD
    targets[(targets >= vocabulary_size) & ~(targets[:, :, None] == sources[:, None]).any(2)] = UNKNOWN
    targets[place == target_lengths[:, None] - 1] = END
    targets[place >= target_lengths[:, None]] = PAD
    return Batch(
        sources=sources,
        source_lengths=source_lengths,
        targets=targets,
        target_lengths=target_lengths,
        rows=tuple(range(size)),
        copies=tuple([f"copy{i}" for i in range(copies)] for _ in range(size)),
        target_texts=tuple(f"target {i}" for i in range(size)),
    )


def text_batch(
    vocabulary: Vocabulary, sources: Sequence[str], targets: Sequence[str], device: torch.device | str = "cpu"
) -> Batch:
    """Pairs of texts, as a store has them."""
    encoded = [vocabulary.encode_source(text) for text in sources]
    copies = tuple(source.copies for source in encoded)
    source_ids = pad_rows([source.ids for source in encoded])
    target_ids = pad_rows([vocabulary.encode_target(*pair) for pair in zip(targets, copies, strict=True)])
    batch = Batch(*source_ids, *target_ids, tuple(range(len(encoded))), copies, tuple(targets))
    return move(batch, torch.device(device))


def select(batch: Batch, rows: Sequence[int]) -> Batch:
    """The pairs ``rows`` of ``batch``, as wide as they were."""
    index = torch.tensor(rows, device=batch.sources.device)
    return Batch(
        sources=batch.sources[index],
        source_lengths=batch.source_lengths[index],
        targets=batch.targets[index],
        target_lengths=batch.target_lengths[index],
        rows=tuple(batch.rows[i] for i in rows),
        copies=tuple(batch.copies[i] for i in rows),
        target_texts=tuple(batch.target_texts[i] for i in rows),
    )


def move(batch: Batch, device: torch.device) -> Batch:
    """``batch`` with its tensors on ``device``."""
    names = ("sources", "source_lengths", "targets", "target_lengths")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in names})


def every_sequence(extended_size: int, max_tokens: int) -> tuple[Tensor, Tensor]:
    """All that can be written with up to ``max_tokens`` tokens, padded after the end token, and the lengths."""
    unfinished: list[list[int]] = [[]]
    finished: list[list[int]] = []
    for _ in range(max_tokens):
        longer = [[*tokens, token] for tokens in unfinished for token in range(extended_size)]
        finished += [tokens for tokens in longer if tokens[-1] == END]
        unfinished = [tokens for tokens in longer if tokens[-1] != END]
    return pad_rows(finished + unfinished)


def random_mixture(
    seed: int,
    *,
    rows: int = 3,
    vocabulary_size: int = 7,
    extended: int = 3,
    width: int = 6,
    copy: bool = True,
    sharpness: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Mixture:
    """A mixture with repeated, extended and padded source ids; ``sharpness`` scales all logits."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return sharpness * torch.randn(*shape, generator=generator, dtype=torch.float64)

    source_ids = torch.randint(END + 1, vocabulary_size + extended, (rows, width), generator=generator)
    padding = torch.arange(width) >= torch.randint(1, width + 1, (rows, 1), generator=generator)
    attention = normal(rows, width).masked_fill(padding, -torch.inf).softmax(-1)
    return Mixture(
        features=normal(rows, 4).to(dtype),
        weight=normal(vocabulary_size, 4).to(dtype),
        bias=normal(vocabulary_size).to(dtype),
        gate_logits=normal(rows).to(dtype) if copy else None,
        attention=attention.to(dtype),
        source_ids=source_ids.masked_fill(padding, PAD),
    )


def row_of(mixture: Mixture, row: int, times: int = 1) -> Mixture:
    """``times`` rows that are all the row ``row`` of ``mixture``, whose rows have a source each."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor[row : row + 1].expand(times, *tensor.shape[1:])

    gate_logits = None if mixture.gate_logits is None else rows(mixture.gate_logits)
    attention, source_ids = rows(mixture.attention), rows(mixture.source_ids)
    return Mixture(rows(mixture.features), mixture.weight, mixture.bias, gate_logits, attention, source_ids)


def log_probs_of(mixture: Mixture, size: int) -> Tensor:
    """The log-probabilities [N, size] that `beam_step` adds up: from a beam that holds every first token."""
    dense = torch.full((len(mixture.features), size), -torch.inf, dtype=torch.float64)
    for row in range(len(dense)):
        beams = start_beams(1, size, 1, like=mixture.features)
        beams, _, tokens = beam_step(row_of(mixture, row, size), beams, 0, SearchRules())
        found = beams.scores[0].isfinite()
        dense[row, tokens[found].cpu()] = beams.scores[0, found].double().cpu()
        dense[row, END] = beams.finished_scores[0, 0]
    return dense


def from_logits(logits: Tensor) -> Mixture:
    """A mixture that only generates, with these logits [N, V]."""
    size = logits.shape[1]
    return Mixture(
        logits, torch.eye(size).to(logits), logits.new_zeros(size), None, logits[:, :0], logits[:, :0].long()
    )


def from_one_row(logits: list[float], rows: int, device: torch.device) -> Mixture:
    """``rows`` times the mixture that only generates, with these logits, which may be -inf."""
    bias = torch.tensor(logits, dtype=torch.float64, device=device)
    return from_logits(torch.zeros_like(bias).expand(rows, -1))._replace(bias=bias)


def on(mixture: Mixture, device: torch.device) -> Mixture:
    """``mixture`` on ``device``."""
    return Mixture(*(None if tensor is None else tensor.to(device) for tensor in mixture))


class TableMemory(NamedTuple):
    source_ids: Tensor
    mask: Tensor


class TableState(NamedTuple):
    like: Tensor
    context: Tensor


class TableModel(nn.Module):
    """A model whose next-token distribution is a row of a table, chosen by the source and the tokens so far.

    Small enough that everything it can write may be enumerated, and its parameters are its distributions.
    """

    parallel = uses_coverage = False

    def __init__(self, vocabulary_size: int, width: int, seed: int = 0, contexts: int = 61, *, copy: bool = True):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(contexts, *shape, generator=generator, dtype=torch.float64))

        self.vocabulary_size, self.feature_size = vocabulary_size, contexts
        self.logits, self.attention, self.gate = table(vocabulary_size), table(width), table()
        self.copy = copy

    def encode(self, sources: Tensor, lengths: Tensor) -> TableMemory:
        return TableMemory(sources, torch.arange(sources.shape[1], device=sources.device) < lengths[:, None])

    def initial_state(self, memory: TableMemory) -> TableState:
        return TableState(self.logits.new_zeros(len(memory.mask)), (memory.source_ids * memory.mask).sum(1) * 13)

    def embed(self, tokens: Tensor) -> Tensor:
        """A token's embedding is its id."""
        return tokens[..., None].to(self.logits.dtype)

    def embedding_mixture(self, weights: Tensor) -> Tensor:
        return weights @ self.embed(torch.arange(weights.shape[-1], device=weights.device))

    def step(self, memory: TableMemory, state: TableState, inputs: Tensor) -> tuple[Mixture, TableState]:
        context = (state.context * 7 + inputs[:, 0].round().long() + 1) % len(self.logits)
        features = nn.functional.one_hot(context, len(self.logits)).to(self.logits.dtype)
        mask = memory.mask.repeat_interleave(len(inputs) // len(memory.mask), 0)
        scores = self.attention[context][:, : memory.mask.shape[1]].masked_fill(~mask, -torch.inf)
        gate_logits = self.gate[context] if self.copy else None
        bias = self.logits.new_zeros(self.vocabulary_size)
        mixture = Mixture(features, self.logits.T, bias, gate_logits, scores.softmax(-1), memory.source_ids)
        return mixture, TableState(state.like, context)

    def all_steps(self, memory: TableMemory, inputs: Tensor) -> Steps:
        state, mixtures = repeat_rows(self.initial_state(memory), len(inputs) // len(memory.mask)), []
        for column in inputs.unbind(1):
            mixture, state = self.step(memory, state, column)
            mixtures.append(mixture)
        features, attention = (torch.stack([m[place] for m in mixtures], 1) for place in (0, 4))
        gate_logits = torch.stack([m.gate_logits for m in mixtures], 1) if self.copy else None
        return Steps(features, gate_logits, attention, attention.new_zeros(inputs.shape[:2]))

    def mixture(self, memory: TableMemory, steps: Steps, row: Tensor, step: Tensor) -> Mixture:
        gate_logits = None if steps.gate_logits is None else steps.gate_logits[row, step]
        bias = self.logits.new_zeros(self.vocabulary_size)
        ids = memory.source_ids[row // (len(steps.features) // len(memory.mask))]
        return Mixture(steps.features[row, step], self.logits.T, bias, gate_logits, steps.attention[row, step], ids)
