"""Functions and methods of a module that have a docstring, and what a model reads of each."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Where statements hold statements.
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
_SKIPPED_DECORATORS = ("overload", "deprecat", "setter", "deleter")
_TEST = re.compile(r"_*tests?(_|[A-Z]|$)")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Definition:
    """A function and the dotted name by which its module knows it."""

    qualname: str
    node: Function
    docstring: str

    @property
    def signature(self) -> str:
        """Like ``Tensor.size(self, dim: int=0) -> int``."""
        returns = f" -> {ast.unparse(self.node.returns)}" if self.node.returns else ""
        return f"{self.qualname}({ast.unparse(self.node.args)}){returns}"

    @property
    def words(self) -> str:
        """The function's own name as lower-case words: ``_getShape2d`` is ``get shape 2 d``."""
        return " ".join(_WORD.findall(_CAMEL_BOUNDARY.sub("_", self.node.name))).lower()

    def body(self, limit: int) -> str:
        """The code below the docstring, normalised, about ``limit`` characters of it."""
        parts: list[str] = []
        size = 0
        for statement in self.node.body[1:]:
            if size > limit:
                break
            parts.append(ast.unparse(statement))
            size += len(parts[-1]) + 1
        return "\n".join(parts)[:limit]


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """Functions with docstrings, in the order of the text; overloads, deprecated ones and tests are left out."""
    return _walk(tree, "")


def _walk(parent: ast.AST, prefix: str) -> Iterator[Definition]:
    for node in (node for block in _BLOCKS for node in getattr(parent, block, ())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring and not _is_skipped(node):
                yield Definition(prefix + node.name, node, docstring)
            yield from _walk(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            if not node.name.startswith("Test"):
                yield from _walk(node, f"{prefix}{node.name}.")
        else:
            yield from _walk(node, prefix)


def _is_skipped(node: Function) -> bool:
    if _TEST.match(node.name):
        return True
    decorators = " ".join(ast.unparse(decorator).lower() for decorator in node.decorator_list)
    return any(mark in decorators for mark in _SKIPPED_DECORATORS)
