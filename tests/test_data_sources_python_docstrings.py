"""The harvested corpus: which files and functions, what a pair holds, duplicates, splits, and that it is reproducible."""

import ast
import json
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
from rlseq2seq.data.sources.python_docstrings.duplicates import far_from, normal_words, without_duplicates
from rlseq2seq.data.sources.python_docstrings.functions import definitions
from rlseq2seq.data.sources.python_docstrings.harvest import MAX_SOURCE_CHARACTERS, Candidate, harvest, harvest_file
from rlseq2seq.errors import UserError

MakePackage = Callable[..., Path]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Write a package of {relative path: text} to a new folder on sys.path; give the package's folder."""

    def make(files: dict[str, str], name: str = "specimen", at: str = "site") -> Path:
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / at / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / at)
        return tmp_path / at / name

    yield make


def config(*packages: str, standard_library: bool = False) -> PythonDocstringsConfig:
    return PythonDocstringsConfig(standard_library, packages, validation_share=0.2, test_share=0.2, seed=0)


def function(name: str, docstring: str, body: str = "return 1") -> str:
    return f'def {name}(x):\n    """{docstring}"""\n    {body}\n'


def harvest_text(tmp_path: Path, text: str) -> dict[str, Pair]:
    """Pairs of one module, by what follows the module in their id."""
    path = tmp_path / "module.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    found, _ = harvest_file(SourceFile("package.module", "package", path))
    return {candidate.pair.id.partition(":")[2]: candidate.pair for candidate in found}


def candidate(target: str, body: str = "", module: str = "m", name: str = "f") -> Candidate:
    return Candidate(Pair(f"{module}:{name}", "source", target, module, name), "package", body)


def targets(candidates: list[Candidate]) -> list[str]:
    return [one.pair.target for one in candidates]


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
    if package == "math" and getattr(sys.modules["math"], "__file__", "").endswith(".py"):
        pytest.fail("this interpreter's math is Python")
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


# Functions


def test_what_a_pair_holds(tmp_path: Path) -> None:
    pairs = harvest_text(
        tmp_path,
        '''
        class Tensor:
            def _get_shape2D(self, axis: int = 0, *more, key=None) -> tuple[int, int]:
                """Return the ``shape`` of it.

                It is cached.
                """
                # a comment
                return  self.shape [:2]
        ''',
    )
    assert pairs == {
        "Tensor._get_shape2D": Pair(
            id="package.module:Tensor._get_shape2D",
            source="Tensor._get_shape2D(self, axis: int=0, *more, key=None) -> tuple[int, int]\n"
            "It is cached.\nreturn self.shape[:2]",
            target="Return the shape of it.",
            group="package.module",
            name="get shape 2 d",
        )
    }


def test_functions_of_every_kind(tmp_path: Path) -> None:
    pairs = harvest_text(
        tmp_path,
        '''
        async def wait():
            """Wait for the end."""

        def outer():
            """Count what is inside."""
            def inner():
                """Count one more thing."""

        try:
            def guarded():
                """Import the fast one."""
        except ImportError:
            def guarded():
                """Import the slow one."""

        if True:
            for _ in range(2):
                with open() as f:
                    def deep():
                        """Stand deep inside blocks."""

        class A:
            class B:
                @property
                def size(self):
                    """Size of the thing."""

                @size.setter
                def size(self, value):
                    """Set the size of the thing."""

        def silent():
            return 1
        ''',
    )
    assert {name: pair.target for name, pair in pairs.items()} == {
        "wait": "Wait for the end.",
        "outer": "Count what is inside.",
        "outer.inner": "Count one more thing.",
        "guarded": "Import the fast one.",
        "guarded#2": "Import the slow one.",
        "deep": "Stand deep inside blocks.",
        "A.B.size": "Size of the thing.",
    }


def test_tests_overloads_deprecated_and_nameless_functions_are_left_out(tmp_path: Path) -> None:
    docstring = '"""Do a sensible thing {}."""'
    lines = [
        "def test_it():", "def _test_it():", "def testIt():", "def _():",
        "@overload\ndef a():", "@typing.overload\ndef b():", "@deprecated('use c')\ndef c():",
        "@deprecate_kwarg(1)\ndef d():",
        "class TestCase:\n    def e():",
        "def testify():", "def latest():", "class Attestation:\n    def f():",
    ]  # fmt: skip
    text = "\n".join(
        f"{line}\n{'        ' if line.startswith('class') else '    '}{docstring.format(number)}"
        for number, line in enumerate(lines)
    )
    assert list(harvest_text(tmp_path, text)) == ["testify", "latest", "Attestation.f"]


def test_a_source_is_cut(tmp_path: Path) -> None:
    body = "\n    ".join(f"x = {number}" for number in range(5000))
    long = harvest_text(tmp_path, function("f", "Do a sensible thing.\n\n    " + "word " * 2000, body))["f"]
    assert len(long.source) == MAX_SOURCE_CHARACTERS
    short = harvest_text(tmp_path, function("f", "Do a sensible thing.", body))["f"]
    assert short.source.startswith("f(x)\nx = 0\nx = 1\n")
    assert len(short.source) < MAX_SOURCE_CHARACTERS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("get_tensor_shape", "get tensor shape"),
        ("__getTensorShape__", "get tensor shape"),
        ("parseHTTPResponse", "parse http response"),
        ("HTTPError", "http error"),
        ("log1p", "log 1 p"),
        ("größe", "größe"),
        ("_", ""),
    ],
)
def test_names_as_words(name: str, words: str) -> None:
    (definition,) = definitions(ast.parse(f'def {name}():\n    """Do."""'))
    assert definition.words == words


def test_files_that_cannot_be_read_are_skipped_and_counted(make_package: MakePackage, tmp_path: Path) -> None:
    good = function("f", "Do a sensible thing.")
    folder = make_package({"a.py": good, "broken.py": "def (:\n", "escape.py": function("g", r"Read a \d thing well.")})
    (folder / "latin.py").write_bytes(b'"""\xe9"""\n')
    (folder / "declared.py").write_bytes("# coding: latin-1\n".encode() + function("h", "é to be read.").encode("latin-1"))
    (folder / "null.py").write_bytes(b"x = 1\0")
    (folder / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    files = [*find_files(config("specimen")), SourceFile("specimen.gone", "specimen", tmp_path / "gone.py")]
    candidates, counts = harvest(files)
    assert [one.pair.target for one in candidates] == ["Do a sensible thing.", "é to be read."]
    assert counts == {
        "files_read": 4,
        "files_skipped": 5,
        "functions_read": 3,
        "skipped_code": 1,
    }


# Duplicates


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Return the size.", "return a size"),
        ("Return the size.", "Returns the sizes!"),
        ("Return the class's size.", "Return the class s size."),
        ("Write a read-only file.", "Write the read only file."),
    ],
)
def test_the_same_target(one: str, other: str) -> None:
    kept, counts = without_duplicates([candidate(one, module="a"), candidate(other, module="b")])
    assert targets(kept) == [one]
    assert counts == {"duplicate_targets": 1}


def test_other_targets() -> None:
    all_of_them = ["Return the size.", "Return the sign.", "Set the size.", "Return the size of it.", "As is it."]
    assert targets(without_duplicates(map(candidate, all_of_them))[0]) == all_of_them
    assert normal_words("Is it a bus? As is.") == ("is", "it", "bus", "as", "is")


def test_the_same_body() -> None:
    long, short = "x = 1\n" * 20, "return self._x"
    kept, counts = without_duplicates(
        [candidate("Do one thing.", long), candidate("Do another thing.", long), candidate("Do more things.", short),
         candidate("Do most things.", short)]
    )  # fmt: skip
    assert targets(kept) == ["Do one thing.", "Do more things.", "Do most things."]
    assert counts == {"duplicate_bodies": 1}


HELD_OUT = "Return the number of edges in this graph."


@pytest.mark.parametrize(
    ("target", "is_far"),
    [
        ("Return a number of edges in this graph", False),
        ("Return the number of nodes in this graph.", False),
        ("Return the exact number of edges in this graph.", False),
        ("Return the number of edges in graph.", False),
        ("Return the number of nodes in that graph.", True),
        ("Return the sum of all edges in this graph.", True),
        ("Delete this graph.", True),
    ],
)
def test_near_targets_stay_out_of_training(target: str, is_far: bool) -> None:
    held_out = [candidate(HELD_OUT, name="order"), candidate("Return the size.", name="size")]
    assert targets(far_from(held_out, [candidate(target, name="other")])) == [target] * is_far


def test_namesakes_with_a_like_target_stay_out_of_training() -> None:
    held_out = [candidate("Return the global free and total memory of a device of CUDA.", name="memory")]
    like = "Return the free and total memory of an XPU device."
    unlike = "Allocate so much."
    assert targets(far_from(held_out, [candidate(like, name="memory"), candidate(unlike, name="memory")])) == [unlike]
    assert targets(far_from(held_out, [candidate(like, name="usage")])) == [like]


def test_short_targets_are_not_near_by_one_word() -> None:
    assert targets(far_from([candidate("Return the size.", name="a")], [candidate("Return the sign.", name="b")])) == [
        "Return the sign."
    ]


# The corpus


WORDS = "apple bread chair dance eagle flute grape horse island jungle kettle lemon mirror needle ocean piano".split()


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
        assert 3 <= len(normal_words(pair.target) + ("the",)) and len(pair.target.split()) <= 30
        assert pair.source.startswith(pair.id.partition(":")[2].partition("#")[0] + "(")
        assert len(pair.source) <= MAX_SOURCE_CHARACTERS
        json.dumps(pair.source).encode()
    assert len({normal_words(pair.target) for pair in pairs.values()}) == len(pairs)
