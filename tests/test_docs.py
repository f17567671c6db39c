import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "experiments/README.md"]
EXAMPLES = {("file", "name"), ("x", "y")}  # what a notation is explained with


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_the_docs_name_are_there(page: Path) -> None:
    named = set(re.findall(r"`([a-z0-9_]+)::([a-z0-9_]+)`", page.read_text())) - EXAMPLES
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^def test_{name}\(", (ROOT / f"tests/test_{file}.py").read_text(), re.MULTILINE)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_the_docs_link_to_are_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
