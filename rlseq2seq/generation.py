"""Texts in, texts out: a checkpoint in use."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from rlseq2seq.config.decoding import BeamConfig
from rlseq2seq.data.batches import pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.guided import guided_by
from rlseq2seq.errors import UserError
from rlseq2seq.models.critic import ActionCritic
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.saved import load_critic, load_model
from rlseq2seq.ops import SearchRules
from rlseq2seq.training.device import find_device

GREEDY = BeamConfig(beam_size=1, length_penalty=1.0, block_ngrams=0, min_tokens=0, critic_weight=0.0)


class Generator:
    """A model with its vocabulary, and its critic if it has one, ready to write."""

    def __init__(
        self,
        model: PointerModel,
        vocabulary: Vocabulary,
        device: torch.device,
        critic: ActionCritic | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self._model, self._device, self._critic = model.eval(), device, critic

    def check(self, search: BeamConfig) -> None:
        """Raises:
        UserError: ``search`` asks a critic, and there is none.
        """
        if search.critic_weight and self._critic is None:
            raise UserError(
                f"critic_weight is {search.critic_weight}, but the model has no critic: set it to 0, or take a "
                "model that was trained with finetune.method actor_critic and critic.kind q"
            )

    def generate(
        self, texts: Iterable[str], search: BeamConfig = GREEDY, batch_size: int = 64, *, progress: bool = False
    ) -> list[str]:
        """An output for each of ``texts``, in their order; ``progress`` shows a bar when it takes long.

        Raises:
            UserError: as `check`.
        """
        self.check(search)
        encoded = [self.vocabulary.encode_source(text) for text in texts]
        # Together with those of its length, a source costs no padding; its output does not depend on its company.
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i].ids))
        outputs = [""] * len(encoded)
        with tqdm(total=len(encoded), desc="generate", unit="text", delay=2, disable=not progress) as bar:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                texts_out = self._generate_batch([encoded[i] for i in rows], search)
                for i, text in zip(rows, texts_out, strict=True):
                    outputs[i] = text
                bar.update(len(rows))
        return outputs

    def _generate_batch(self, encoded: Sequence[tuple[list[int], list[str]]], search: BeamConfig) -> list[str]:
        sources, lengths = pad_rows([ids for ids, _ in encoded])
        copies = [copies for _, copies in encoded]
        with torch.no_grad():
            memory = self._model.encode(sources.to(self._device), lengths.to(self._device))
        rules = SearchRules(search.length_penalty, search.block_ngrams, search.min_tokens)
        max_tokens = self.vocabulary.config.max_target_tokens
        guide = None
        if self._critic is not None and search.critic_weight:
            extended_size = len(self.vocabulary) + max(map(len, copies))
            guide = guided_by(self._critic, search.critic_weight, extended_size)
        found = beam_search(self._model, memory, max_tokens, search.beam_size, rules, guide)
        return self.vocabulary.decode_rows(found.tokens.tolist(), copies)


def load(path: str | Path, device: str = "cpu") -> Generator:
    """Load a checkpoint folder: ``rlseq2seq.load("models/rl").generate(texts)``; ``device`` as in params.yaml.

    Raises:
        UserError: the folder is not a whole checkpoint, or there is no such device.
    """
    return load_on(Path(path), find_device(device, "the device"))


def load_on(folder: Path, device: torch.device) -> Generator:
    """As `load`, on a device that is there."""
    model, vocabulary = load_model(folder, device)
    return Generator(model, vocabulary, device, load_critic(folder, model, device))
