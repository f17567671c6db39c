// ROUGE-N on the CPU: how n-grams are counted is in ngrams.h, the rest in rouge_scorer.h.
#include "ngrams.h"
#include "rouge_scorer.h"

#include <torch/library.h>

namespace rlseq2seq {
namespace {

RougeResult rouge_n_cpu(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                        const at::Tensor& references, const at::Tensor& reference_lengths, int64_t n, bool prefixes,
                        const OptionalTensor& continues, const OptionalTensor& ends) {
  check_gram(n);
  const RougeShape shape = check_rouge("rouge_n", hypotheses, hypothesis_lengths, references, reference_lengths,
                                       prefixes, continues, ends);
  const RougeArguments arguments(hypotheses, hypothesis_lengths, references, reference_lengths, continues, ends);
  RougeResult result = empty_rouge(hypotheses, prefixes, arguments.ends);
  constexpr std::array score = {&score_all<NgramStepper<1>>, &score_all<NgramStepper<2>>, &score_all<NgramStepper<3>>,
                                &score_all<NgramStepper<4>>};
  static_assert(score.size() == kMostGram);
  score[n - 1]("rouge_n", shape, arguments.addresses(), addresses(result), prefixes);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("rouge_n", &rouge_n_cpu); }

}  // namespace rlseq2seq
