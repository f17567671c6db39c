"""CNN/DailyMail as stories and as parquet: the same texts from both."""

import hashlib
from pathlib import Path

import pytest
from parquet_files import write_parquet

from rlseq2seq.data.pairs import SPLITS, Pair
from rlseq2seq.data.sources import cnn_dailymail
from rlseq2seq.data.sources.cnn_dailymail import read_story
from rlseq2seq.errors import UserError

STORY = """(CNN) -- A first sentence.\u0020\u0020

A caption without its end

"A quote?"

@highlight

One thing

@highlight

Another thing!
"""
ARTICLE = '(CNN) -- A first sentence. A caption without its end . "A quote?"'
LISTS = {"train": "all_train.txt", "validation": "all_val.txt", "test": "all_test.txt"}


def url(split: str) -> str:
    return f"http://web.archive.org/web/2015id_/http://www.cnn.com/{split}/index.html"


def identity(split: str) -> str:
    return hashlib.sha1(url(split).encode()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "url_lists").mkdir()
    for split, place in zip(SPLITS, ("cnn/stories", "dailymail/stories", "cnn_stories_tokenized"), strict=True):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / f"{identity(split)}.story").write_text(STORY.replace("first", split))
        (tmp_path / "url_lists" / LISTS[split]).write_text(f"{url(split)}\n")
    return tmp_path


def test_a_story_is_put_together_as_the_hub_s(tmp_path: Path) -> None:
    path = tmp_path / "a.story"
    path.write_text(STORY)
    assert read_story(path) == {"source": ARTICLE, "target": "One thing . Another thing!"}


def test_stories_by_the_published_lists(folder: Path) -> None:
    corpus = cnn_dailymail.load(str(folder))
    for split in SPLITS:
        article = ARTICLE.replace("first", split)
        assert list(corpus.splits[split]) == [Pair(identity(split), article, "One thing . Another thing!")]
    assert corpus.notes[1] == f"terms: {cnn_dailymail.TERMS}"


def test_a_story_without_text_is_left_out_and_counted(folder: Path) -> None:
    (folder / "cnn" / "stories" / f"{identity('train')}.story").write_text("\n@highlight\n\nOne\n")
    corpus = cnn_dailymail.load(str(folder))
    assert list(corpus.splits["train"]) == []
    assert corpus.facts == {"skipped_blank_train": 1}


def test_a_list_or_a_story_that_is_missing(folder: Path) -> None:
    (folder / "dailymail" / "stories" / f"{identity('validation')}.story").unlink()
    corpus = cnn_dailymail.load(str(folder))
    told = rf"all_val\.txt, line 1 asks for {identity('validation')}\.story, and no folder of stories in"
    with pytest.raises(UserError, match=told):
        list(corpus.splits["validation"])
    (folder / "url_lists" / "all_test.txt").unlink()
    with pytest.raises(UserError, match=r"all_test\.txt is not there: put the published list there"):
        cnn_dailymail.load(str(folder))


def test_a_story_that_is_not_utf_8(folder: Path) -> None:
    (folder / "cnn" / "stories" / f"{identity('train')}.story").write_bytes(b"one\n\xff\n")
    with pytest.raises(UserError, match=r"\.story, line 2 is not UTF-8"):
        list(cnn_dailymail.load(str(folder)).splits["train"])


def test_highlights_of_parquet_files_are_joined_by_spaces_and_otherwise_as_published(tmp_path: Path) -> None:
    for split in SPLITS:
        path = tmp_path / f"{split}-00000-of-00001.parquet"
        write_parquet(path, article=["a\nb", "c"], highlights=["one .\ntwo", None], id=["x", "y"])
    corpus = cnn_dailymail.load(str(tmp_path))
    assert list(corpus.splits["train"]) == [Pair("x", "a\nb", "one . two")]
    assert corpus.facts == {"skipped_blank_train": 1}
