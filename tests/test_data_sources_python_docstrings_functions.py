"""Functions of a module: which are taken, under which names, and what a pair holds of each."""

import ast
import textwrap
from pathlib import Path

import pytest

from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.sources.python_docstrings.discover import SourceFile
from rlseq2seq.data.sources.python_docstrings.functions import definitions
from rlseq2seq.data.sources.python_docstrings.harvest import MAX_SOURCE_CHARACTERS, harvest_file


def function(name: str, docstring: str, body: str = "return 1") -> str:
    return f'def {name}(x):\n    """{docstring}"""\n    {body}\n'


def harvest_text(tmp_path: Path, text: str) -> dict[str, Pair]:
    """Pairs of one module, by what follows the module in their id."""
    path = tmp_path / "module.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    found, _ = harvest_file(SourceFile("package.module", "package", path))
    return {candidate.pair.id.partition(":")[2]: candidate.pair for candidate in found}


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
        finally:
            def final():
                """Clear up after it."""

        match 1:
            case 1:
                def matched():
                    """Stand inside a case."""

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
        "final": "Clear up after it.",
        "matched": "Stand inside a case.",
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
