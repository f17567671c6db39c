// The schema of every operator. Kernels register themselves in csrc/cpu and csrc/cuda; what an operator means is told
// in its Python face (rlseq2seq/ops), which also registers its fake kernel.
#include <torch/library.h>

TORCH_LIBRARY(rlseq2seq, m) {
  m.def(
      "rouge_l(Tensor hypotheses, Tensor hypothesis_lengths, Tensor references, Tensor reference_lengths, "
      "bool prefixes, Tensor? continues=None, Tensor? ends=None) "
      "-> (Tensor lcs, Tensor precision, Tensor recall, Tensor fmeasure)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "rouge_n(Tensor hypotheses, Tensor hypothesis_lengths, Tensor references, Tensor reference_lengths, int n, "
      "bool prefixes, Tensor? continues=None, Tensor? ends=None) "
      "-> (Tensor overlap, Tensor precision, Tensor recall, Tensor fmeasure)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "word_hashes(Tensor tokens, Tensor pieces, Tensor segments, Tensor copies, Tensor copy_segments, "
      "Tensor copy_starts, int most, bool prefixes) "
      "-> (Tensor hashes, Tensor lengths, Tensor continues, Tensor ends)",
      {at::Tag::pt2_compliant_tag});
  m.def("pack_weight(Tensor weight) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("packed_linear(Tensor inputs, Tensor packed, Tensor start) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("lstm_cell(Tensor gates, Tensor cell) -> (Tensor hidden, Tensor new_cell)", {at::Tag::pt2_compliant_tag});
  m.def(
      "lstm_cell_backward(Tensor grad_hidden, Tensor grad_cell, Tensor gates, Tensor cell, Tensor new_cell) "
      "-> (Tensor grad_gates, Tensor grad_old_cell)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "pointer_loss(Tensor features, Tensor weight, Tensor bias, Tensor? gate_logits, Tensor attention, "
      "Tensor source_ids, Tensor targets) -> Tensor log_probs",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "pointer_loss_backward(Tensor weights, Tensor? entropy_weights, Tensor? smoothing_weights, Tensor features, "
      "Tensor weight, Tensor bias, Tensor? gate_logits, Tensor attention, Tensor source_ids, Tensor targets, "
      "bool[5] needs) -> (Tensor log_probs, Tensor entropy, Tensor mean_log_softmax, Tensor grad_features, "
      "Tensor grad_weight, Tensor grad_bias, Tensor grad_gate_logits, Tensor grad_attention)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "copy_attention(Tensor query, Tensor keys, Tensor values, Tensor mask, Tensor? score_weight, Tensor? coverage, "
      "Tensor? coverage_weight, Tensor? past) -> (Tensor context, Tensor attention, Tensor new_past)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "copy_attention_backward(Tensor grad_context, Tensor grad_attention, Tensor grad_past, Tensor query, "
      "Tensor keys, Tensor values, Tensor mask, Tensor? score_weight, Tensor? coverage, Tensor? coverage_weight, "
      "Tensor? past, Tensor context, Tensor attention, Tensor new_past, bool wants_rows, bool wants_keys, "
      "bool wants_values) -> "
      "(Tensor query_grad, Tensor keys_grad, Tensor values_grad, Tensor score_weight_grad, Tensor coverage_grad, "
      "Tensor coverage_weight_grad, Tensor past_grad)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "greedy_step(Tensor features, Tensor weight, Tensor bias, Tensor? gate_logits, Tensor attention, "
      "Tensor source_ids, Tensor? packed=None) -> (Tensor tokens, Tensor log_probs)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "sample_step(Tensor features, Tensor weight, Tensor bias, Tensor? gate_logits, Tensor attention, "
      "Tensor source_ids, Tensor noise, float temperature, int top_k, float top_p, Tensor? packed=None) "
      "-> (Tensor tokens, Tensor log_probs)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "beam_step(Tensor features, Tensor weight, Tensor bias, Tensor? gate_logits, Tensor attention, "
      "Tensor source_ids, Tensor tokens, Tensor scores, Tensor finished_tokens, Tensor finished_scores, int step, "
      "float length_penalty, int block_ngrams, int min_tokens, Tensor? packed=None) -> (Tensor extended, Tensor extended_scores, "
      "Tensor pool, Tensor pool_scores, Tensor rows, Tensor chosen)",
      {at::Tag::pt2_compliant_tag});
}
