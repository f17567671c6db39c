"""The harvested corpus: its files and functions, what a pair holds, duplicates, splits, and that it is reproducible."""

import random
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlseq2seq.config.data import PythonDocstringsConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, Pair
from rlseq2seq.data.sources import python_docstrings
from rlseq2seq.data.sources.python_docstrings.discover import SourceFile, find_files
from rlseq2seq.data.sources.python_docstrings.duplicates import normal_words
from rlseq2seq.data.sources.python_docstrings.filters import objection
from rlseq2seq.data.sources.python_docstrings.harvest import MAX_SOURCE_CHARACTERS, harvest
from rlseq2seq.errors import UserError

MakePackage = Callable[..., Path]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Write a package of {relative path: text} to a new folder on sys.path; give the package's folder."""

    def make(files: dict[str, str], at: str = "site") -> Path:
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / at / "specimen" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / at)
        return tmp_path / at / "specimen"

    yield make


def config(*packages: str, standard_library: bool = False) -> PythonDocstringsConfig:
    return PythonDocstringsConfig(standard_library, packages, validation_share=0.2, test_share=0.2, seed=0)


def function(name: str, docstring: str, body: str = "return 1") -> str:
    return f'def {name}(x):\n    """{docstring}"""\n    {body}\n'


def everything(corpus: Corpus) -> dict[str, list[Pair]]:
    return {split: list(pairs) for split, pairs in corpus.splits.items()}


# Files


def test_files_of_a_package_without_tests_and_copies_of_others(make_package: MakePackage) -> None:
    kept = ["a.py", "sub/__init__.py", "sub/latest.py", "sub/contest.py"]
    left_out = ["tests/helper.py", "test_a.py", "a_test.py", "conftest.py", "sub/testing/b.py", "_vendor/c.py",
                "externals/d.py", "data-files/e.py", "a.txt"]  # fmt: skip
    make_package(dict.fromkeys(kept + left_out, ""))
    files = find_files(config("specimen"))
    assert [file.module for file in files] == [
        "specimen", "specimen.a", "specimen.sub", "specimen.sub.contest", "specimen.sub.latest"
    ]  # fmt: skip
    assert {file.package for file in files} == {"specimen"}


def test_a_package_is_found_and_not_imported(make_package: MakePackage) -> None:
    make_package({"__init__.py": "raise RuntimeError('imported')", "a.py": ""})
    assert len(find_files(config("specimen"))) == 2
    assert "specimen" not in sys.modules


def test_a_package_of_one_file(make_package: MakePackage, tmp_path: Path) -> None:
    make_package({})
    (tmp_path / "site" / "single.py").write_text("")
    assert [file.module for file in find_files(config("single"))] == ["single"]


def test_a_package_comes_before_a_module_of_its_name_and_each_counts_once(make_package: MakePackage) -> None:
    folder = make_package({"a.py": "", "a/__init__.py": ""})
    assert [(file.module, file.path) for file in find_files(config("specimen", "specimen"))] == [
        ("specimen", folder / "__init__.py"),
        ("specimen.a", folder / "a" / "__init__.py"),
    ]


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        ("absent_package", "'absent_package', which is not installed: install it"),
        ("json.decoder", "'json.decoder': give the name of a top-level package"),
        ("math", "'math', which has no Python source"),
    ],
)
def test_a_package_that_cannot_be_read(package: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        python_docstrings.load(config(package))
    assert "data.python_docstrings.packages" in str(error.value)


def test_the_standard_library_is_what_every_installation_has() -> None:
    modules = {file.module for file in find_files(config(standard_library=True))}
    assert {"json", "json.decoder", "argparse", "asyncio.base_events"} <= modules
    top = {module.partition(".")[0] for module in modules}
    assert top <= sys.stdlib_module_names
    assert top.isdisjoint({"test", "idlelib", "lib2to3", "tkinter", "sitecustomize"})
    assert not any("test" in module.split(".") or "site-packages" in module for module in modules)


# The corpus


def test_files_that_cannot_be_read_are_skipped_and_counted(make_package: MakePackage, tmp_path: Path) -> None:
    good = function("f", "Do a sensible thing.")
    folder = make_package({"a.py": good, "broken.py": "def (:\n", "escape.py": function("g", r"Read a \d thing well.")})
    (folder / "latin.py").write_bytes(b'"""\xe9"""\n')
    latin = "# coding: latin-1\n" + function("h", "Bring the entrée of this day.")
    (folder / "declared.py").write_bytes(latin.encode("latin-1"))
    (folder / "null.py").write_bytes(b"x = 1\0")
    (folder / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    files = [*find_files(config("specimen")), SourceFile("specimen.gone", "specimen", tmp_path / "gone.py")]
    candidates, counts = harvest(files)
    assert [one.pair.target for one in candidates] == ["Do a sensible thing.", "Bring the entrée of this day."]
    assert counts == {
        "files_read": 4,
        "files_skipped": 5,
        "functions_read": 3,
        "skipped_code": 1,
    }


WORDS = ("apple", "bread", "chair", "dance", "eagle", "flute", "grape", "horse", "island", "jungle", "kettle", "lemon")


def many_modules(number: int = 60) -> dict[str, str]:
    """Modules of three functions each, with targets of five random words."""
    randomness = random.Random(0)
    return {
        f"sub{index % 7}/module{index}.py": "\n".join(
            function(f"f{index}_{n}", " ".join(randomness.sample(WORDS, 5)) + f" {index} {n}", f"return {index}, {n}")
            for n in range(3)
        )
        for index in range(number)
    }


def test_no_module_is_in_two_splits_and_no_pair_is_lost(make_package: MakePackage) -> None:
    make_package(many_modules())
    corpus = python_docstrings.load(config("specimen"))
    splits = everything(corpus)
    assert set(splits) == set(SPLITS)
    groups = {split: {pair.group for pair in pairs} for split, pairs in splits.items()}
    assert all(groups[one].isdisjoint(groups[other]) for one in SPLITS for other in SPLITS if one != other)
    assert len(groups["train"]) > len(groups["test"]) > 4
    assert len(groups["validation"]) > 4
    pairs = [pair for split in splits.values() for pair in split]
    assert len({pair.id for pair in pairs}) == len(pairs)
    facts = corpus.facts
    assert facts["functions_read"] == 180
    assert facts["functions_read"] == len(pairs) + facts["near_held_out"] + facts.get("duplicate_targets", 0)
    assert facts["from_specimen"] == len(pairs)


def test_near_pairs_are_in_one_split_only(make_package: MakePackage) -> None:
    texts = {f"module{n}.py": function(f"f{n}", f"Return the number of things in box {n}.") for n in range(40)}
    make_package(texts)
    splits = everything(python_docstrings.load(config("specimen")))
    assert len(splits["test"]) > 2
    assert splits["validation"] == splits["train"] == []


def test_training_pairs_are_far_from_validation_too(make_package: MakePackage) -> None:
    modules = {python_docstrings.split_of(f"specimen.m{n}", config()): f"m{n}.py" for n in range(40)}
    assert set(modules) == set(SPLITS)
    near = function("f", "Return the number of edges in this graph.") + function(
        "g", "Draw a plane of the whole house."
    )
    make_package(
        {
            modules["test"]: function("h", "Play the old song on the radio."),
            modules["validation"]: function("k", "Return the number of nodes in this graph."),
            modules["train"]: near,
        }
    )
    splits = everything(python_docstrings.load(config("specimen")))
    assert {split: [pair.id.partition(":")[2] for pair in pairs] for split, pairs in splits.items()} == {
        "train": ["g"],
        "validation": ["k"],
        "test": ["h"],
    }


def test_a_module_stays_in_its_split_whatever_comes_and_goes(make_package: MakePackage) -> None:
    folder = make_package(many_modules())
    before = everything(python_docstrings.load(config("specimen")))
    shutil.rmtree(folder / "sub0")
    after = everything(python_docstrings.load(config("specimen")))
    for split in SPLITS:
        groups = {pair.group for pair in before[split]}
        assert {pair.group for pair in after[split] if pair.group in groups}
        others = {pair.group for other in SPLITS if other != split for pair in before[other]}
        assert others.isdisjoint(pair.group for pair in after[split])


@pytest.mark.parametrize(
    ("module", "split"),
    [("json", "train"), ("torch.nn", "train"), ("re", "validation"), ("csv", "test"), ("sympy.core.add", "test")],
)
def test_the_split_of_a_module_is_the_same_in_every_process(module: str, split: str) -> None:
    assert python_docstrings.split_of(module, config()) == split


def test_the_seed_moves_modules(make_package: MakePackage) -> None:
    make_package(many_modules())
    settings = [PythonDocstringsConfig(False, ("specimen",), 0.2, 0.2, seed) for seed in (0, 1)]
    tests = [{pair.group for pair in everything(python_docstrings.load(one))["test"]} for one in settings]
    assert tests[0] != tests[1]


def test_order_place_and_compiled_files_do_not_matter(
    make_package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = many_modules()
    folder = make_package(modules)
    here = everything(python_docstrings.load(config("specimen")))
    monkeypatch.undo()
    other = make_package(dict(reversed(modules.items())), at="elsewhere/deeper")
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "module0.py").write_text(function("stray", "Return what is no source."))
    assert other != folder
    assert everything(python_docstrings.load(config("specimen"))) == here


def test_the_order_of_files_does_not_matter(make_package: MakePackage) -> None:
    make_package(many_modules(20))
    files = find_files(config("specimen"))
    shuffled = random.Random(1).sample(files, len(files))
    assert harvest(shuffled) == harvest(files)


@pytest.fixture(scope="module")
def standard_library() -> Corpus:
    return python_docstrings.load(config(standard_library=True))


def test_the_standard_library_gives_sensible_pairs(standard_library: Corpus) -> None:
    splits = everything(standard_library)
    pairs = {pair.id: pair for split in splits.values() for pair in split}
    assert len(pairs) > 3000
    assert standard_library.facts["files_read"] > 400
    known = pairs["os:get_exec_path"]
    assert known.target == "Returns the sequence of directories that will be searched for the named executable " + (
        "(similar to a shell) when launching a process."
    )
    assert known.source.startswith("get_exec_path(env=None)\nenv must be an environment variable dict or None.")
    assert known.name == "get exec path"
    for pair in pairs.values():
        assert objection(pair.target) is None
        assert pair.source.startswith(pair.id.partition(":")[2].partition("#")[0] + "(")
        assert len(pair.source) <= MAX_SOURCE_CHARACTERS
    assert len({normal_words(pair.target) for pair in pairs.values()}) == len(pairs)
