"""Corpora of the hub that have a name of their own here."""

from rlseq2seq.config.data import HubConfig
from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources import hub

_XSUM = HubConfig("EdinburghNLP/xsum", "document", "summary", None, None)
_GIGAWORD = HubConfig("Harvard/gigaword", "document", "summary", None, None)


def load_xsum(path: str | None) -> Corpus:
    """BBC articles and their one-sentence summaries (arXiv:1808.08745); otherwise as `hub.load`."""
    return hub.load(_XSUM, path, "articles are copyright of the BBC; for research")


def load_gigaword(path: str | None) -> Corpus:
    """First sentences of news and their headlines (arXiv:1509.00685); otherwise as `hub.load`."""
    return hub.load(_GIGAWORD, path, "made from English Gigaword, under the licence of the LDC (LDC2003T05)")
