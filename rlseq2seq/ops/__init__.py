"""The one Python face of the kernels."""

from rlseq2seq.ops.contracts import Attended, Beams, Chosen, Mixture, SearchRules
from rlseq2seq.ops.lstm_cell import LstmState, lstm_cell
from rlseq2seq.ops.reference import copy_attention, mixture_log_probs, pointer_loss
from rlseq2seq.ops.reference_search import beam_step, finish_beams, greedy_step, sample_step, start_beams
from rlseq2seq.ops.rouge_l import RougeL, rouge_l

__all__ = [
    "Attended",
    "Beams",
    "Chosen",
    "LstmState",
    "Mixture",
    "RougeL",
    "SearchRules",
    "beam_step",
    "copy_attention",
    "finish_beams",
    "greedy_step",
    "lstm_cell",
    "mixture_log_probs",
    "pointer_loss",
    "rouge_l",
    "sample_step",
    "start_beams",
]
