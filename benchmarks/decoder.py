"""The whole decoder beside the same model on the PyTorch references: training, rollouts, beam search.

    python -m benchmarks.decoder

Beam search also beside one document at a time and, on the CPU, beside CTranslate2 decoding a Transformer of about that
size (random weights that never end a sentence, so that all decode the same number of steps): another model, whose
documents a second are context.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, Row, medians, print_rows, ratios
from rlseq2seq import ops
from rlseq2seq.config.model import AttentionConfig, ModelConfig, TransformerConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding import beam, single_path
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.pointer_generator import Memory, PointerGenerator
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.ops import Attended, SearchRules, reference, reference_search
from rlseq2seq.token_ids import END

STEPS, SOURCE, VOCABULARY = 40, 200, 8000
CONFIG = ModelConfig(
    architecture="lstm",
    embedding_size=256,
    dropout=0.0,
    output_weights="tied",
    copy=True,
    encoder_size=256,
    decoder_size=512,
    attention_size=512,
    attention=AttentionConfig(score="additive", temporal=False, intra_decoder=False),
    transformer=TransformerConfig(layers=1, heads=1, feed_forward_size=1, positions="rotary", copy_head=None),
)
RULES = SearchRules(length_penalty=1.0)


@contextmanager
def on_references() -> Iterator[None]:
    """The same Python, each operator replaced by its PyTorch twin. These wait for the device to learn how many copies
    there are, so that no step of decoding can be recorded and replayed."""
    twins = {
        name: getattr(module, name)
        for module in (reference, reference_search)
        for name in ops.__all__
        if callable(getattr(module, name, None)) and getattr(module, name).__module__ == module.__name__
    }
    twins |= {
        "AttentionOverSteps": attention_over_steps,
        "LinearOverSteps": LinearOverSteps,
    }
    with ExitStack() as patched:
        patched.enter_context(patch.multiple(ops, **twins))
        for module in (beam, single_path):
            patched.enter_context(patch.object(module, "replayed", lambda step, device: None))
        yield


def attention_over_steps(
    keys: Tensor, values: Tensor, mask: Tensor, score_weight: Tensor, coverage_weight: Tensor | None
) -> Callable[..., Attended]:
    """A call of the reference a step; autograd adds up."""
    return lambda query, coverage, past: reference.copy_attention(
        query, keys, values, mask, score_weight, coverage, coverage_weight, past
    )


class LinearOverSteps:
    """A product a step; autograd adds up."""

    def __init__(self, starts: Tensor, weight: Tensor) -> None:
        self._starts, self._weight = iter(starts.unbind(1)), weight

    def __call__(self, inputs: Tensor) -> Tensor:
        return torch.addmm(next(self._starts), inputs, self._weight.T)


def referenced(work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with on_references():
            return work()

    return run


def make_model(vocabulary: int = VOCABULARY) -> PointerGenerator:
    torch.manual_seed(0)
    model = PointerGenerator(CONFIG, vocabulary)
    with torch.no_grad():
        model.output.bias[END] = -1e4  # so that every hypothesis takes all steps
    return model.to(DEVICE).eval()


def make_batch(count: int, source: int = SOURCE, target: int = STEPS, vocabulary: int = VOCABULARY) -> Batch:
    draw = torch.Generator().manual_seed(1)
    sources, targets = (torch.randint(4, vocabulary, (count, n), generator=draw) for n in (source, target))
    lengths = [torch.full((count,), n) for n in (source, target)]
    on_device = [x.to(DEVICE) for x in (sources, lengths[0], targets, lengths[1])]
    return Batch(*on_device, tuple(range(count)), ([],) * count, ("",) * count)


def training() -> list[Row]:
    """Decoder alone: the encoder's states are given, gradients reach them and all weights."""
    model, batch = make_model(), make_batch(32)
    with torch.no_grad():
        encoded = model.encode(batch.sources, batch.source_lengths)
    values = encoded.values.clone().requires_grad_()

    def step() -> None:
        memory: Memory = encoded._replace(values=values, keys=model.attention_key(values))
        model.zero_grad()
        values.grad = None
        torch.autograd.backward(maximum_likelihood(model, memory, batch, 0.0).total)

    times = medians("decoder, training", {"ours": step, "references": referenced(step)})
    return ratios("whole decoder, training step, 32 x 40 steps, S 200, V 8k, D 512", times, {"references": 2.5})


def rollouts() -> list[Row]:
    """What self-critical training with four samples a source decodes; the encoder runs once before."""
    model, batch = make_model(), make_batch(32)
    with torch.no_grad():
        memory = model.encode(batch.sources, batch.source_lengths)
    noise = torch.rand(4 * 32, STEPS, device=DEVICE)

    def decode() -> None:
        greedy(model, memory, STEPS)
        sample(model, memory, STEPS, noise)

    times = medians("rollouts", {"ours": decode, "references": referenced(decode)})
    return ratios("rollouts, greedy + 4 samples of 32 sources, 40 steps", times, {"references": 4.0})


def beams() -> list[Row]:
    """16 documents, encoder included."""
    model, batch = make_model(), make_batch(16)

    def search(sources: Tensor, lengths: Tensor) -> None:
        with torch.no_grad():
            beam_search(model, model.encode(sources, lengths), STEPS, 4, RULES)

    def one_at_a_time() -> None:
        for i in range(16):
            search(batch.sources[i : i + 1], batch.source_lengths[i : i + 1])

    together = partial(search, batch.sources, batch.source_lengths)
    contenders = {
        "ours": together,
        "references, one document at a time": referenced(one_at_a_time),
        "references, batched": referenced(together),
    }
    bars: dict[str, float | None] = {"references, one document at a time": 5.0, "references, batched": 3.0}
    if DEVICE.type == "cpu":
        from benchmarks.ctranslate2_peer import beam_search as peer  # there on a CPU's list of peers alone

        contenders["CTranslate2, Transformer"] = peer(batch.sources.tolist(), VOCABULARY, 4, STEPS)
        bars["CTranslate2, Transformer"] = 1.0
    times = medians("beam search", contenders)
    for name, seconds in times.items():
        print(f"beam search, {name}: {16 / seconds:.1f} documents/s")
    return ratios("beam search, 16 documents, beam 4, 40 steps, V 8k, D 512", times, bars)


def rows() -> list[Row]:
    return [*training(), *rollouts(), *beams()]


def main() -> None:
    print_rows(rows())


if __name__ == "__main__":
    main()
