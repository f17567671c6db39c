// What rouge_l and rouge_n share on the CPU: the references are shared out among threads, each is indexed and all its
// hypotheses are taken through it by a stepper (lcs.h, ngrams.h).
#pragma once

#include "../rouge_checks.h"
#include "matches.h"
#include "simd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace rlseq2seq {

// Scores the hypotheses of one reference after another, with scratch that is used again.
template <class Stepper, class Index>
class Scorer {
 public:
  Scorer(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores, bool prefixes, size_t ids)
      : shape_(shape), inputs_(inputs), scores_(scores), prefixes_(prefixes), stepper_(shape.time), index_(ids) {
    carries_.resize(static_cast<size_t>(shape.shared * shape.time));
    common_.resize(static_cast<size_t>(shape.shared));
    if (inputs.grow) grown_.resize(static_cast<size_t>(shape.time + 1));
  }

  void score(int64_t reference) {
    const int64_t length = inputs_.reference_lengths[reference];
    if (length <= narrow_.kTokens) {
      compare(narrow_, reference, length);
    } else {
      compare(wide_, reference, length);
    }
    const int32_t units = Stepper::units(static_cast<int32_t>(length));
    for (int64_t i = 0; i < shape_.shared; ++i) write(reference * shape_.shared + i, i, units);
  }

 private:
  template <class Bits>
  void compare(Matches<Bits, Index>& matches, int64_t reference, int64_t length) {
    const int64_t* tokens = inputs_.references + reference * shape_.reference_time;
    constexpr int64_t overlap = Stepper::kOverlap;
    for (int64_t start = 0; start == 0 || start + overlap < length; start += matches.kTokens - overlap) {
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
    if (inputs_.grow) return compare_grown(matches, hypothesis, i, first);
    if (first) return stepper_.template carry<true>(matches, tokens, length, carries);
    return stepper_.template carry<false>(matches, tokens, length, carries);
  }

  // Apart, lest it cost the loops above their registers.
  template <class Bits>
  __attribute__((noinline)) int32_t compare_grown(const Matches<Bits, Index>& matches, int64_t hypothesis, int64_t i,
                                                  bool first) {
    const int64_t* const tokens = inputs_.hypotheses + hypothesis * shape_.time;
    const int64_t length = inputs_.hypothesis_lengths[hypothesis];
    const bool* const continues = inputs_.continues + hypothesis * shape_.time;
    uint8_t* const carries = carries_.data() + i * shape_.time;
    if (first) {
      stepper_.template carry_replacing<true>(matches, tokens, length, continues, carries);
    } else {
      stepper_.template carry_replacing<false>(matches, tokens, length, continues, carries);
    }
    return 0;  // how many are common is not asked for
  }

  // A carry out of the last stretch is what its token adds to what is common.
  void write(int64_t hypothesis, int64_t i, int32_t reference_units) {
    const auto length = static_cast<int32_t>(inputs_.hypothesis_lengths[hypothesis]);
    if (!prefixes_) return scores_.set(hypothesis, common_[i], Stepper::units(length), reference_units);
    if (inputs_.grow) return write_grown(hypothesis, i, length, reference_units);
    const int64_t row = hypothesis * shape_.time;
    int32_t* const commons = scores_.common + row;
    const uint8_t* const carries = carries_.data() + i * shape_.time;
    int32_t common = 0;
    for (int32_t t = 0; t < length; ++t) commons[t] = common += carries[t];
    for (int32_t t = 0; t < length; ++t) scores_.set(row + t, commons[t], Stepper::units(t + 1), reference_units);
    for (int64_t t = length; t < shape_.time; ++t) {
      scores_.set(row + t, common, Stepper::units(length), reference_units);
    }
  }

  __attribute__((noinline)) void write_grown(int64_t hypothesis, int64_t i, int32_t length, int32_t reference_units) {
    const bool* const continues = inputs_.continues + hypothesis * shape_.time;
    const uint8_t* const carries = carries_.data() + i * shape_.time;
    Grown now, before;
    for (int32_t t = 0; t < length; ++t) {
      if (t == 0 || !continues[t]) before = now;
      now = {before.common + carries[t], before.words + 1};
      grown_[t + 1] = now;
    }
    const int64_t row = hypothesis * shape_.ends;
    for (int64_t e = 0; e < shape_.ends; ++e) {
      const Grown& end = grown_[std::clamp<int64_t>(inputs_.ends[row + e], 0, length)];
      scores_.set(row + e, end.common, Stepper::units(end.words), reference_units);
    }
  }

  // What so many columns hold.
  struct Grown {
    int32_t common = 0;
    int32_t words = 0;
  };

  const RougeShape& shape_;
  const RougeInputs& inputs_;
  const RougeScores& scores_;
  const bool prefixes_;
  Stepper stepper_;
  Index index_;
  Matches<uint64_t, Index> narrow_{index_};
  Matches<unsigned __int128, Index> wide_{index_};
  std::vector<uint8_t> carries_;  // [shared, T]
  std::vector<int32_t> common_;   // [shared]
  std::vector<Grown> grown_;      // [T + 1]
};

inline void check_lengths(const char* op, const int64_t* lengths, int64_t count, int64_t limit, const char* name) {
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_VALUE(lengths[i] >= 0 && lengths[i] <= limit, op, ": ", name, "[", i, "] is ", lengths[i],
                      ", outside 0 to ", limit, ".");
  }
}

// All bits that are set in any token of these references: no less than the largest, and huge where one is negative.
RLSEQ2SEQ_SIMD static uint64_t bits_of_tokens(const RougeShape& shape, const RougeInputs& inputs, int64_t begin,
                                              int64_t end) {
  uint64_t bits = 0;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t* tokens = inputs.references + r * shape.reference_time;
    const int64_t length = inputs.reference_lengths[r];
    for (int64_t i = 0; i < length; ++i) bits |= static_cast<uint64_t>(tokens[i]);
  }
  return bits;
}

template <class Stepper>
void score_all(const char* op, const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores,
               bool prefixes) {
  check_lengths(op, inputs.hypothesis_lengths, shape.hypotheses, shape.time, "hypothesis_lengths");
  check_lengths(op, inputs.reference_lengths, shape.references, shape.reference_time, "reference_lengths");
  constexpr uint64_t most_direct_ids = 1 << 16;  // 128 KiB, in the second-level cache at worst
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
    if (bits < std::min(most_direct_ids, ids_worth)) {
      score(Scorer<Stepper, DirectIndex>(shape, inputs, scores, prefixes, bits + 1), begin, end);
    } else {
      score(Scorer<Stepper, HashIndex>(shape, inputs, scores, prefixes, 0), begin, end);
    }
  });
}

}  // namespace rlseq2seq
