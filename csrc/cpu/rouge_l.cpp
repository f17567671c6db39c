// ROUGE-L on the CPU: the references are shared out among threads, the rest is in lcs.h.
#include "../common.h"
#include "lcs.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

using Narrow = uint64_t;
using Wide = unsigned __int128;

// Scores the hypotheses of one reference after another, with scratch that is used again.
class Scorer {
 public:
  Scorer(const RougeLShape& shape, const RougeLInputs& inputs, const RougeLScores& scores, bool prefixes)
      : shape_(shape), inputs_(inputs), scores_(scores), prefixes_(prefixes), stepper_(shape.time) {
    carries_.resize(static_cast<size_t>(shape.shared * shape.time));
    common_.resize(static_cast<size_t>(shape.shared));
  }

  void score(int64_t reference) {
    const int64_t length = inputs_.reference_lengths[reference];
    if (length <= Matches<Narrow>::kTokens) {
      compare(narrow_, reference, length);
    } else {
      compare(wide_, reference, length);
    }
    for (int64_t i = 0; i < shape_.shared; ++i) write(reference * shape_.shared + i, i, static_cast<int32_t>(length));
  }

 private:
  template <class Bits>
  void compare(Matches<Bits>& matches, int64_t reference, int64_t length) {
    const int64_t* tokens = inputs_.references + reference * shape_.reference_time;
    compare_stretch<true>(matches, reference, tokens, std::min(length, matches.kTokens));
    for (int64_t start = matches.kTokens; start < length; start += matches.kTokens) {
      compare_stretch<false>(matches, reference, tokens + start, std::min(length - start, matches.kTokens));
    }
  }

  template <bool kFirst, class Bits>
  void compare_stretch(Matches<Bits>& matches, int64_t reference, const int64_t* tokens, int64_t length) {
    matches.fill(tokens, length);
    for (int64_t i = 0; i < shape_.shared; ++i) {
      const int64_t h = reference * shape_.shared + i;
      common_[i] = stepper_.run<kFirst>(matches, inputs_.hypotheses + h * shape_.time, inputs_.hypothesis_lengths[h],
                                        carries_.data() + i * shape_.time);
    }
  }

  // A carry out of the last stretch is what its token adds to the common subsequence.
  void write(int64_t hypothesis, int64_t i, int32_t reference_length) const {
    const auto length = static_cast<int32_t>(inputs_.hypothesis_lengths[hypothesis]);
    if (!prefixes_) return scores_.set(hypothesis, common_[i], length, reference_length);
    const int64_t row = hypothesis * shape_.time;
    int32_t* const lcs = scores_.lcs + row;
    const uint8_t* const carries = carries_.data() + i * shape_.time;
    int32_t common = 0;
    for (int32_t t = 0; t < length; ++t) lcs[t] = common += carries[t];
    for (int32_t t = 0; t < length; ++t) scores_.set(row + t, lcs[t], t + 1, reference_length);
    for (int64_t t = length; t < shape_.time; ++t) scores_.set(row + t, common, length, reference_length);
  }

  const RougeLShape& shape_;
  const RougeLInputs& inputs_;
  const RougeLScores& scores_;
  const bool prefixes_;
  Stepper stepper_;
  Matches<Narrow> narrow_;
  Matches<Wide> wide_;
  std::vector<uint8_t> carries_;  // [shared, T]
  std::vector<int32_t> common_;   // [shared]
};

void check_lengths(const int64_t* lengths, int64_t count, int64_t limit, const char* name) {
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_VALUE(lengths[i] >= 0 && lengths[i] <= limit, "rouge_l: ", name, "[", i, "] is ", lengths[i],
                      ", outside 0 to ", limit, ".");
  }
}

RougeLResult rouge_l_cpu(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                         const at::Tensor& references, const at::Tensor& reference_lengths, bool prefixes) {
  const RougeLShape shape = check_rouge_l(hypotheses, hypothesis_lengths, references, reference_lengths);
  const auto h = hypotheses.expect_contiguous(), hl = hypothesis_lengths.expect_contiguous();
  const auto r = references.expect_contiguous(), rl = reference_lengths.expect_contiguous();
  const RougeLInputs inputs{h->const_data_ptr<int64_t>(), hl->const_data_ptr<int64_t>(), r->const_data_ptr<int64_t>(),
                            rl->const_data_ptr<int64_t>()};
  check_lengths(inputs.hypothesis_lengths, shape.hypotheses, shape.time, "hypothesis_lengths");
  check_lengths(inputs.reference_lengths, shape.references, shape.reference_time, "reference_lengths");

  RougeLResult result = empty_rouge_l(hypotheses, prefixes);
  const RougeLScores scores = addresses(result);
  // A token takes about 2 ns a stretch; to wake a thread pays from tens of microseconds on.
  constexpr int64_t tokens_a_thread = 20000;
  const int64_t tokens_a_reference = 1 + shape.reference_time + shape.shared * shape.time;
  at::parallel_for(0, shape.references, 1 + tokens_a_thread / tokens_a_reference, [&](int64_t begin, int64_t end) {
    Scorer scorer(shape, inputs, scores, prefixes);
    for (int64_t reference = begin; reference < end; ++reference) scorer.score(reference);
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("rouge_l", &rouge_l_cpu); }

}  // namespace rlseq2seq
