import pytest
import torch
from hypothesis import settings
from tiny import sentences, tokenization_config

from rlseq2seq.data.vocabulary import Vocabulary

# The same examples in every run: a failure can be had again, and a pass does not depend on luck.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("reproducible")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """80 unigram pieces, up to 20 source and 8 target tokens."""
    return Vocabulary.train(sentences(), sentences(), tokenization_config())


@pytest.fixture(scope="session")
def word_vocabulary() -> Vocabulary:
    """Whole words, so that a source has words to copy that the vocabulary lacks."""
    return Vocabulary.train(sentences(), sentences(), tokenization_config(type="word", vocabulary_size=24))
