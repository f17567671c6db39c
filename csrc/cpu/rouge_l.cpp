// ROUGE-L on the CPU: the references are shared out among threads, the rest is in lcs.h.
#include "../common.h"
#include "lcs.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

using Narrow = uint64_t;
using Wide = unsigned __int128;

constexpr uint64_t kMostDirectIds = 1 << 16;  // 128 KiB, in the second-level cache at worst

// Scores the hypotheses of one reference after another, with scratch that is used again.
template <class Index>
class Scorer {
 public:
  Scorer(const RougeLShape& shape, const RougeLInputs& inputs, const RougeLScores& scores, bool prefixes, size_t ids)
      : shape_(shape), inputs_(inputs), scores_(scores), prefixes_(prefixes), stepper_(shape.time), index_(ids) {
    carries_.resize(static_cast<size_t>(shape.shared * shape.time));
    common_.resize(static_cast<size_t>(shape.shared));
  }

  void score(int64_t reference) {
    const int64_t length = inputs_.reference_lengths[reference];
    if (length <= narrow_.kTokens) {
      compare(narrow_, reference, length);
    } else {
      compare(wide_, reference, length);
    }
    for (int64_t i = 0; i < shape_.shared; ++i) write(reference * shape_.shared + i, i, static_cast<int32_t>(length));
  }

 private:
  template <class Bits>
  void compare(Matches<Bits, Index>& matches, int64_t reference, int64_t length) {
    const int64_t* tokens = inputs_.references + reference * shape_.reference_time;
    for (int64_t start = 0; start == 0 || start < length; start += matches.kTokens) {
      matches.fill(tokens + start, std::min(length - start, matches.kTokens));
      for (int64_t i = 0; i < shape_.shared; ++i) {
        common_[i] = compare_stretch(matches, reference * shape_.shared + i, i, start == 0, length <= matches.kTokens);
      }
    }
  }

  template <class Bits>
  int32_t compare_stretch(const Matches<Bits, Index>& matches, int64_t hypothesis, int64_t i, bool first, bool only) {
    const int64_t* tokens = inputs_.hypotheses + hypothesis * shape_.time;
    const int64_t length = inputs_.hypothesis_lengths[hypothesis];
    uint8_t* const carries = carries_.data() + i * shape_.time;
    if (only && !prefixes_) return stepper_.count(matches, tokens, length);
    if (first) return stepper_.carry<true>(matches, tokens, length, carries);
    return stepper_.carry<false>(matches, tokens, length, carries);
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
  Index index_;
  Matches<Narrow, Index> narrow_{index_};
  Matches<Wide, Index> wide_{index_};
  std::vector<uint8_t> carries_;  // [shared, T]
  std::vector<int32_t> common_;   // [shared]
};

void check_lengths(const int64_t* lengths, int64_t count, int64_t limit, const char* name) {
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_VALUE(lengths[i] >= 0 && lengths[i] <= limit, "rouge_l: ", name, "[", i, "] is ", lengths[i],
                      ", outside 0 to ", limit, ".");
  }
}

// All bits that are set in any token of these references: no less than the largest, and huge where one is negative.
uint64_t bits_of_tokens(const RougeLShape& shape, const RougeLInputs& inputs, int64_t begin, int64_t end) {
  uint64_t bits = 0;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t* tokens = inputs.references + r * shape.reference_time;
    for (int64_t i = 0; i < inputs.reference_lengths[r]; ++i) bits |= static_cast<uint64_t>(tokens[i]);
  }
  return bits;
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
  const auto score = [&](auto&& scorer, int64_t begin, int64_t end) {
    for (int64_t reference = begin; reference < end; ++reference) scorer.score(reference);
  };
  at::parallel_for(0, shape.references, 1 + tokens_a_thread / tokens_a_reference, [&](int64_t begin, int64_t end) {
    const uint64_t bits = bits_of_tokens(shape, inputs, begin, end);
    // A direct index has to be cleared at first, which pays up to so many ids a token.
    const uint64_t ids_worth = 16 * static_cast<uint64_t>((end - begin) * tokens_a_reference);
    if (bits < std::min(kMostDirectIds, ids_worth)) {
      score(Scorer<DirectIndex>(shape, inputs, scores, prefixes, bits + 1), begin, end);
    } else {
      score(Scorer<HashIndex>(shape, inputs, scores, prefixes, 0), begin, end);
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("rouge_l", &rouge_l_cpu); }

}  // namespace rlseq2seq
