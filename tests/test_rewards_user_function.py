import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from reward_cases import random_rows, source_batch
from tiny import reward_config, text_batch

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.rewards.user_function import UserFunction
from rlseq2seq.token_ids import END, PAD

MINE = """
import os
import signal


def score(hypotheses, references, sources):
    assert type(hypotheses) is type(references) is type(sources) is list
    return [len(h) + 100 * len(r) + 10000 * len(s) for h, r, s in zip(hypotheses, references, sources, strict=True)]


def process(hypotheses, references, sources):
    return [os.getpid() for _ in hypotheses]


def count(hypotheses, references, sources):
    return [len(hypotheses)] * len(hypotheses)


def loads(hypotheses, references, sources):
    return [loaded] * len(hypotheses)


loaded = os.getpid()
number = 3


def raises(hypotheses, references, sources):
    raise KeyError("no such\\nthing")


def short(hypotheses, references, sources):
    return [1.0] * (len(hypotheses) - 1)


def none(hypotheses, references, sources):
    return [None for _ in hypotheses]


def nan(hypotheses, references, sources):
    return [float("nan") for _ in hypotheses]


def dies(hypotheses, references, sources):
    os.kill(os.getpid(), signal.SIGKILL)


def later(hypotheses, references, sources):
    return [1.0 if h == "A text." else float("inf") for h in hypotheses]
"""

Make = Callable[..., UserFunction]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder from which modules are imported, as from the project's root, here and in the processes."""
    path = tmp_path_factory.mktemp("mine")
    (path / "my_rewards.py").write_text(MINE)
    (path / "broken_rewards.py").write_text("1 / 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path))
        yield path


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    made = []

    def start(name: str, workers: int = 1) -> UserFunction:
        made.append(UserFunction(name, workers))
        return made[-1]

    yield start
    for function in made:
        function.close()


def test_it_is_given_texts_references_and_sources_in_order(make: Make) -> None:
    texts = [("a" * (i % 7), "b" * (i % 3), "c" * (i % 5)) for i in range(50)]
    expected = [float(i % 7 + 100 * (i % 3) + 10000 * (i % 5)) for i in range(50)]
    for workers in (1, 2):
        assert make("my_rewards:score", workers)(texts) == expected


def test_it_is_called_in_processes_that_are_started_once(make: Make) -> None:
    texts = [(str(i), "", "") for i in range(40)]
    process, loads = make("my_rewards:process"), make("my_rewards:loads")
    assert {*process(texts), *process(texts)} == set(process(texts[:1]))
    assert float(os.getpid()) not in process(texts)
    assert set(loads(texts)) == set(loads(texts[1:]))
    # A part of the batch a process, and no text twice.
    assert set(make("my_rewards:count", 2)(texts + texts)) == {20.0}


def test_nothing_is_no_work(make: Make) -> None:
    assert make("my_rewards:score")([]) == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            "no_such_module:score",
            r"function is 'no_such_module:score': cannot be imported \(ModuleNotFoundError: .*root",
        ),
        ("my_rewards:no_such", r"cannot be imported \(AttributeError: .*must be package\.module:name"),
        ("broken_rewards:score", r"cannot be imported \(ZeroDivisionError: "),
        ("my_rewards:number", r"must be a function, and is of type int"),
        ("my_rewards:raises", r"^my_rewards:raises failed: KeyError: .*it must take lists of hypotheses, references"),
        ("my_rewards:short", r"gave 0 rewards for 1 texts: it must give one for each"),
        ("my_rewards:none", r"failed: TypeError: .*return a list of numbers"),
        ("my_rewards:nan", r"gave nan for 'A text\.': rewards must be finite"),
        ("my_rewards:dies", r"a process that called it died.*lower runtime\.workers"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line_before_any_training(make: Make, path: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        make(path)
    assert "\n" not in str(caught.value)


def test_what_goes_wrong_later_is_told_as_well(make: Make) -> None:
    later = make("my_rewards:later")
    with pytest.raises(UserError, match=r"^my_rewards:later gave inf for 'x': rewards must be finite$"):
        later([("x", "", "")])


def test_as_a_reward_it_is_given_what_the_rows_spell(
    device: torch.device, folder: Path, vocabulary: Vocabulary, word_vocabulary: Vocabulary
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        batch = source_batch(pieces, device)
        tokens = torch.tensor(random_rows(pieces, batch, 6), device=device)
        config = reward_config(metric="function", function="my_rewards:score", add={"length": 0.5})
        reward, length = (WeightedReward(pieces, c, 1) for c in (config, reward_config(metric="length")))
        sources = pieces.decode_rows(batch.sources.tolist(), batch.copies)
        texts = pieces.decode_rows(tokens.tolist(), batch.copies)
        each = len(texts) // len(sources)
        expected = [
            len(text) + 100 * len(batch.target_texts[i // each]) + 10000 * len(sources[i // each])
            for i, text in enumerate(texts)
        ]
        found = reward(tokens, batch)
        assert found.device == tokens.device and found.dtype == torch.float32
        assert (found - 0.5 * length(tokens, batch)).tolist() == pytest.approx(expected)
        prefixes = reward.prefixes(tokens, batch)
        for t in range(tokens.shape[1]):
            assert torch.equal(prefixes[:, t], reward(tokens[:, : t + 1], batch))
        assert reward.prefixes(tokens[:, :0], batch).shape == (len(tokens), 0)


def test_a_text_ends_at_the_end_token(device: torch.device, folder: Path, word_vocabulary: Vocabulary) -> None:
    the = word_vocabulary.encode_target("the")[0]
    batch = text_batch(word_vocabulary, [""], [""], device)
    tokens = torch.tensor([[the, END, the, the], [the, END, PAD, PAD], [the, the, the, the]], device=device)
    config = reward_config(metric="function", function="my_rewards:score")
    reward = WeightedReward(word_vocabulary, config, 1)
    assert reward(tokens, batch).tolist() == [3.0, 3.0, 15.0]
    assert reward.prefixes(tokens, batch).tolist() == [[3.0] * 4, [3.0] * 4, [3.0, 7.0, 11.0, 15.0]]
