// The schema of every operator. Kernels register themselves in csrc/cpu and csrc/cuda; what an operator means is told
// in its Python face (rlseq2seq/ops), which also registers its fake kernel.
#include <torch/library.h>

TORCH_LIBRARY(rlseq2seq, m) {
  m.def(
      "rouge_l(Tensor hypotheses, Tensor hypothesis_lengths, Tensor references, Tensor reference_lengths, "
      "bool prefixes) -> (Tensor lcs, Tensor precision, Tensor recall, Tensor fmeasure)",
      {at::Tag::pt2_compliant_tag});
  m.def("lstm_cell(Tensor gates, Tensor cell) -> (Tensor hidden, Tensor new_cell)", {at::Tag::pt2_compliant_tag});
  m.def(
      "lstm_cell_backward(Tensor grad_hidden, Tensor grad_cell, Tensor gates, Tensor cell, Tensor new_cell) "
      "-> (Tensor grad_gates, Tensor grad_old_cell)",
      {at::Tag::pt2_compliant_tag});
}
