from dataclasses import replace
from pathlib import Path

import pytest
import torch
from critic_cases import random_critic
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import sentences, tiny_model

import rlseq2seq
from rlseq2seq.config.decoding import BeamConfig
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.generation import GREEDY, Generator
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.saved import save_model
from rlseq2seq.token_ids import END

BEAM = BeamConfig(beam_size=3, length_penalty=1.0, block_ngrams=2, min_tokens=1, critic_weight=0.0)


@pytest.fixture(scope="module")
def generator(device: torch.device, vocabulary: Vocabulary) -> Generator:
    model = tiny_model(len(vocabulary), 3, embedding_size=16, encoder_size=16, decoder_size=16).to(device)
    return Generator(model, vocabulary, device)


@pytest.fixture(scope="module")
def copier(device: torch.device, word_vocabulary: Vocabulary) -> Generator:
    """Writes the word it attends to most, which is the one of its source."""
    model = tiny_model(len(word_vocabulary)).to(device)
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.fill_(-50)
    return Generator(model, word_vocabulary, device)


@settings(max_examples=15)
@given(st.lists(st.sampled_from([*sentences(30), "", " ", "unseen words!"]), max_size=7), st.integers(1, 8))
def test_outputs_follow_the_inputs_whatever_the_batches(
    generator: Generator, texts: list[str], batch_size: int
) -> None:
    for search in (GREEDY, BEAM):
        alone = [generator.generate([text], search)[0] for text in texts]
        assert generator.generate(texts, search, batch_size) == alone


def test_outputs_differ_with_their_sources(generator: Generator) -> None:
    assert len(set(generator.generate(sentences(30)))) > 5


def test_nothing_in_nothing_out(generator: Generator) -> None:
    assert generator.generate([]) == []
    assert generator.generate(iter(())) == []


def test_an_empty_text_has_an_output(generator: Generator) -> None:
    empty, full = generator.generate(["", "the sum of values"], BEAM)
    assert isinstance(empty, str) and generator.generate(["", "", " "], BEAM) == [empty] * 3
    assert generator.generate(["the sum of values"], BEAM) == [full]


def test_texts_may_come_one_at_a_time(generator: Generator) -> None:
    texts = sentences(5)
    assert generator.generate(iter(texts)) == generator.generate(texts)


def test_words_that_the_vocabulary_lacks_come_out_as_they_were(copier: Generator) -> None:
    assert copier.generate(["zorp", "the", "quux", "zorp"]) == [
        " ".join([word] * 8) for word in ("zorp", "the", "quux", "zorp")
    ]
    together = copier.generate(["zorp flim quux", "", "flam"], GREEDY)
    assert set(together[0].split()) <= {"zorp", "flim", "quux"} and together[0]
    assert set(together[2].split()) == {"flam"}


def test_the_search_is_the_one_asked_for(
    copier: Generator, generator: Generator, device: torch.device, vocabulary: Vocabulary
) -> None:
    once = BeamConfig(beam_size=2, length_penalty=1.0, block_ngrams=1, min_tokens=0, critic_weight=0.0)
    assert copier.generate(["zorp"], once)[0].split().count("zorp") == 1
    texts = sentences(20)
    wide = BeamConfig(beam_size=5, length_penalty=1.0, block_ngrams=0, min_tokens=0, critic_weight=0.0)
    assert generator.generate(texts, wide) != generator.generate(texts, GREEDY)
    silent = tiny_model(len(vocabulary), copy=False).to(device)
    with torch.no_grad():
        silent.output.bias[END] += 50
    least = BeamConfig(beam_size=1, length_penalty=1.0, block_ngrams=0, min_tokens=3, critic_weight=0.0)
    assert Generator(silent, vocabulary, device).generate(texts) == [""] * 20
    assert all(Generator(silent, vocabulary, device).generate(texts, least))


def test_generating_switches_dropout_off(device: torch.device, vocabulary: Vocabulary) -> None:
    model = tiny_model(len(vocabulary), dropout=0.9).to(device).train()
    texts = sentences(20)
    generator = Generator(model, vocabulary, device)
    assert generator.generate(texts) == generator.generate(texts)


def test_a_checkpoint_writes_what_its_model_writes(
    tmp_path: Path, device: torch.device, vocabulary: Vocabulary
) -> None:
    model: PointerGenerator = tiny_model(len(vocabulary), dtype=torch.float32)
    save_model(tmp_path, model, vocabulary)
    texts = sentences(20)
    expected = Generator(model.to(device), vocabulary, device).generate(texts, BEAM)
    assert rlseq2seq.load(tmp_path, str(device)).generate(texts, BEAM) == expected
    assert rlseq2seq.load(str(tmp_path), str(device)).generate(texts, BEAM) == expected


def test_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a checkpoint"):
        rlseq2seq.load(tmp_path / "nowhere")


# Guided by a critic.


def guided_generator(device: torch.device, vocabulary: Vocabulary, seed: int = 0) -> Generator:
    model = tiny_model(len(vocabulary), 3, embedding_size=16, encoder_size=16, decoder_size=16).to(device)
    critic = random_critic(model.feature_size, len(vocabulary), seed).to(device)
    return Generator(model, vocabulary, device, critic)


@pytest.mark.parametrize("search", [GREEDY, BEAM])
def test_a_critic_without_a_weight_is_not_asked(
    generator: Generator,
    device: torch.device,
    vocabulary: Vocabulary,
    search: BeamConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [*sentences(20), ""]
    guided = guided_generator(device, vocabulary)
    assert guided.generate(texts, replace(search, critic_weight=1.0)) != generator.generate(texts, search)
    monkeypatch.delattr("rlseq2seq.generation.guided_by")
    assert guided.generate(texts, search) == generator.generate(texts, search)


@settings(max_examples=15)
@given(st.lists(st.sampled_from([*sentences(30), "", " ", "unseen words!"]), max_size=7), st.integers(1, 8))
def test_guided_outputs_follow_the_inputs_whatever_the_batches(
    device: torch.device, word_vocabulary: Vocabulary, texts: list[str], batch_size: int
) -> None:
    generator = guided_generator(device, word_vocabulary)
    for search in (replace(GREEDY, critic_weight=0.5), replace(BEAM, critic_weight=2.0)):
        alone = [generator.generate([text], search)[0] for text in texts]
        assert generator.generate(texts, search, batch_size) == alone


def test_guided_outputs_have_words_that_the_vocabulary_lacks(device: torch.device, word_vocabulary: Vocabulary) -> None:
    model = tiny_model(len(word_vocabulary)).to(device)
    critic = random_critic(model.feature_size, len(word_vocabulary)).to(device)
    with torch.no_grad():
        critic.copies.weight.zero_()
        critic.copies.bias.fill_(1e4)
    outputs = Generator(model, word_vocabulary, device, critic).generate(
        ["zorp flim quux", "the", "flam of"], replace(BEAM, block_ngrams=0, critic_weight=1.0)
    )
    assert set(outputs[0].split()) <= {"zorp", "flim", "quux"} and outputs[0]
    assert not set(outputs[1].split()) & {"zorp", "flim", "quux", "flam"}
    assert set(outputs[2].split()) == {"flam"}


def test_a_saved_critic_guides_as_it_did(tmp_path: Path, device: torch.device, vocabulary: Vocabulary) -> None:
    model: PointerGenerator = tiny_model(len(vocabulary), dtype=torch.float32)
    critic = random_critic(model.feature_size, len(vocabulary))
    save_model(tmp_path, model, vocabulary, critic)
    texts, search = sentences(20), replace(BEAM, critic_weight=0.5)
    expected = Generator(model.to(device), vocabulary, device, critic.to(device)).generate(texts, search)
    loaded = rlseq2seq.load(tmp_path, str(device))
    assert loaded.generate(texts, search) == expected != loaded.generate(texts, BEAM)


def test_a_critic_that_is_not_there_cannot_be_asked(generator: Generator) -> None:
    for texts in (sentences(2), []):
        with pytest.raises(UserError, match=r"^critic_weight is 0\.5, but the model has no critic: set it to 0, or"):
            generator.generate(texts, replace(GREEDY, critic_weight=0.5))
