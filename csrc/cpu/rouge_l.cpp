// ROUGE-L on the CPU: the recurrence is in lcs.h, the rest in rouge_scorer.h.
#include "lcs.h"
#include "rouge_scorer.h"

#include <torch/library.h>

namespace rlseq2seq {
namespace {

RougeResult rouge_l_cpu(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                        const at::Tensor& references, const at::Tensor& reference_lengths, bool prefixes,
                        const OptionalTensor& continues, const OptionalTensor& ends) {
  const RougeShape shape = check_rouge("rouge_l", hypotheses, hypothesis_lengths, references, reference_lengths,
                                       prefixes, continues, ends);
  const RougeArguments arguments(hypotheses, hypothesis_lengths, references, reference_lengths, continues, ends);
  RougeResult result = empty_rouge(hypotheses, prefixes, arguments.ends);
  score_all<LcsStepper>("rouge_l", shape, arguments.addresses(), addresses(result), prefixes);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("rouge_l", &rouge_l_cpu); }

}  // namespace rlseq2seq
