"""The one Python face of the kernels."""

from rlseq2seq.ops.beams import finish_beams, start_beams
from rlseq2seq.ops.contracts import Attended, Beams, Chosen, Mixture, SearchRules, WeightedLoss
from rlseq2seq.ops.copy_attention import copy_attention
from rlseq2seq.ops.lstm_cell import LstmState, lstm_cell
from rlseq2seq.ops.mixture import extended_size, mixture_log_probs
from rlseq2seq.ops.over_steps import AttentionOverSteps, LinearOverSteps
from rlseq2seq.ops.packed_linear import constant_weights, linear
from rlseq2seq.ops.pointer_loss import pointer_loss, weighted_pointer_loss
from rlseq2seq.ops.rouge_l import RougeL, rouge_l
from rlseq2seq.ops.rouge_n import RougeN, rouge_n
from rlseq2seq.ops.search import beam_step, greedy_step, sample_step
from rlseq2seq.ops.word_hashes import PieceTable, WordHashes, hash_words, piece_table, to_device, word_hashes

__all__ = [
    "Attended",
    "AttentionOverSteps",
    "Beams",
    "Chosen",
    "LinearOverSteps",
    "LstmState",
    "Mixture",
    "PieceTable",
    "RougeL",
    "RougeN",
    "SearchRules",
    "WeightedLoss",
    "WordHashes",
    "beam_step",
    "constant_weights",
    "copy_attention",
    "extended_size",
    "finish_beams",
    "greedy_step",
    "hash_words",
    "linear",
    "lstm_cell",
    "mixture_log_probs",
    "piece_table",
    "pointer_loss",
    "rouge_l",
    "rouge_n",
    "sample_step",
    "start_beams",
    "to_device",
    "weighted_pointer_loss",
    "word_hashes",
]
