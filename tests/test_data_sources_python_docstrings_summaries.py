"""Docstrings taken apart: what is the first sentence, what is the rest, and which sentences make sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq2seq.data.sources.python_docstrings.filters import objection
from rlseq2seq.data.sources.python_docstrings.summaries import plain_text, sentence_end, summarize


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the size.", "Return the size."),
        ("Return the size", "Return the size."),
        ("\n    Return the size\n    of a tensor.\n\n    More.\n    ", "Return the size of a tensor."),
        ("Return the size. It is cached.", "Return the size."),
        ("Return the size. numpy does it.", "Return the size."),
        ("Is it empty? Then none.", "Is it empty?"),
        # abbreviations, numbers, names and brackets end no sentence
        ("Read a file, e.g. Table, or none. Then close.", "Read a file, e.g. Table, or none."),
        ("Read a file, i.e. all of it. Then close.", "Read a file, i.e. all of it."),
        ("Compare a vs. b in order. Then stop.", "Compare a vs. b in order."),
        ("Split the args. Then parse.", "Split the args."),
        ("Close files, pipes etc. in order. Then stop.", "Close files, pipes etc. in order."),
        ("Close files, pipes etc. Then stop.", "Close files, pipes etc."),
        ("Scale by 1.5 since v2.0 of it. More.", "Scale by 1.5 since v2.0 of it."),
        ("Call os.path.join on both. More.", "Call os.path.join on both."),
        ("Return it (see below. Or not) at once. More.", "Return it (see below. Or not) at once."),
        ("Draw from [0, 1) evenly. More.", "Draw from [0, 1) evenly."),
        ("Take the method of Kautsky et al. as given. More.", "Take the method of Kautsky et al. as given."),
        ('Return "yes." or nothing. More.', 'Return "yes." or nothing.'),
        ("Wait ... and see. More.", "Wait ... and see."),
        # what ends a summary though no blank line does
        ("Return the size\n:param x: a tensor", "Return the size."),
        ("Return the size\n@param x: a tensor", "Return the size."),
        ("Return the size\nArgs:\n    x: a tensor", "Return the size."),
        ("Return the size\nParameters\n----------\nx : Tensor", "Return the size."),
        ("Return the size\n>>> f(1)\n1", "Return the size."),
        ("Return the size\n.. versionadded:: 1.2", "Return the size."),
        ("Return the size\n- of a tensor", "Return the size."),
        ("Return the size\nThis may be slow.", "Return the size."),
        ("Return the size,\nOr none of it.", "Return the size, Or none of it."),
        # a role at the beginning of a line is no field
        ("Return the\n:class:`Size` of it.", "Return the Size of it."),
        # a capital below a full line is a name
        ("Return the size of the tensor as an object of the class that\nNumPy has for it.",
         "Return the size of the tensor as an object of the class that NumPy has for it."),
        # what comes before a summary
        ("size(x, dim=0) -> int\n\nReturn the size.", "Return the size."),
        ("size(x, f=(1, 2))\nReturn the size.", "Return the size."),
        (".. deprecated:: 1.2\n   Use y.\n\nReturn the size.", "Return the size."),
        # no summary
        (":param x: a tensor", ""),
        (">>> f(1)\n1", ""),
        ("Parameters\n----------\nx : Tensor", ""),
        ("", ""),
        ("   \n  ", ""),
    ],
)  # fmt: skip
def test_first_sentence(docstring: str, sentence: str) -> None:
    assert summarize(docstring).sentence == sentence


def test_the_rest_is_prose_without_underlines_and_doctests() -> None:
    docstring = """Return the size. It is ``cached``.

    Parameters
    ----------
    x : :class:`~torch.Tensor`
        Any tensor.

    Examples
    --------
    >>> size(torch.zeros(2))
    torch.Size([2])

    Afterwards.
    """
    rest = "It is cached.\nParameters\nx : Tensor\nAny tensor.\nExamples\nAfterwards."
    assert summarize(docstring).rest == rest


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        (":func:`size` of :py:class:`~torch.Tensor`", "size of Tensor"),
        (":meth:`the size <Tensor.size>` and :exc:`!OSError`", "the size and OSError"),
        ("``a`` and `b` and ```c```", "a and b and c"),
        ("`the docs <https://x.org>`_ of `y`_", "the docs of y"),
        ("[the docs](https://x.org) of [y][x.y]", "the docs of y"),
        ("**bold**, *thin*, not *args, **kwargs or 2 * 3 * 4", "bold, thin, not *args, **kwargs or 2 * 3 * 4"),
        ("C{None} or L{str}", "None or str"),
        ("A method [1]_ of $n$ steps", "A method of n steps"),
        ("<code>None</code> or x < 3", "None or x < 3"),
        ("x[0] and y[i, j]", "x[0] and y[i, j]"),
        ("  many   blanks\t", "many blanks"),
        ("--------", ""),
    ],
)  # fmt: skip
def test_markup_is_removed(marked: str, plain: str) -> None:
    assert plain_text(marked) == plain


@given(st.text())
def test_any_docstring_is_taken_apart(docstring: str) -> None:
    summary = summarize(docstring)
    assert summary.sentence == " ".join(summary.sentence.split())
    objection(summary.sentence)


@given(st.text())
def test_a_sentence_ends_inside_its_text(text: str) -> None:
    assert 0 <= sentence_end(text) <= len(text)


@pytest.mark.parametrize(
    "sentence",
    [
        "Return the size.",
        "See if the file is there.",
        "Test whether the number is odd.",
        "Decorator to mark a function as deprecated.",
        "Return True if x == y, else False.",
        "Draw a sample from [0, 1).",
        "Returns a random graph using Erdős-Rényi preferential attachment.",
        "Call os.getcwd() and return its result.",
        "Return the 'id' of the note.",
        "_repr_html_ calls this method to show the frame.",
        "word " * 29 + "word.",
    ],
)
def test_sensible_sentences(sentence: str) -> None:
    assert objection(sentence) is None


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("", "no summary"),
        ("...", "no summary"),
        ("Initialize self.", "too short"),
        ("word " * 30 + "word.", "too long"),
        ("Возвращает размер тензора.", "not English"),
        ("See base class.", "points elsewhere"),
        ("See Tensor.size for details.", "points elsewhere"),
        ("Alias for the other one.", "points elsewhere"),
        ("Same as size but slower.", "points elsewhere"),
        ("Inherited from the base class.", "points elsewhere"),
        ("Overrides the method of its parent.", "points elsewhere"),
        ("Docstring is in the base.", "points elsewhere"),
        ("Deprecated, use size instead.", "obsolete"),
        ("This method is deprecated.", "obsolete"),
        ("TODO write this text.", "a remark"),
        ("Note that x is odd.", "a remark"),
        ("Do not use this function.", "a remark"),
        ("Test that the size is right.", "a remark"),
        ("Solve the problem in this form:", "unfinished"),
        ("Compute the transform, defined by.", "unfinished"),
        ("size(x, dim) returns the size.", "code"),
        ("phrase = one word of many.", "code"),
        ("Return the map from a -> b.", "code"),
        ("Compute the sum \\sum_i of x.", "code"),
        ("Look at https://x.org for the algorithm.", "code"),
        ("Return {a: b} of it all.", "code"),
        ("Return the size (of this.", "code"),
        ("z1 + z2 * (a - b) / c.", "code"),
        (">>> return the size.", "code"),
    ],
)
def test_senseless_sentences(sentence: str, reason: str) -> None:
    assert objection(sentence) == reason
