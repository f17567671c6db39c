// N-grams that hypotheses have in common with one reference, bit-parallel, each counted as often as both have it (the
// clipped counts of ROUGE-N: Lin 2004). Plain C++, no torch.
//
// With M(t) the positions at which the reference holds token t of the hypothesis, one bit a token, the n-gram that ends
// at t ends in the reference at
//     E_n(t) = M(t) & (E_{n-1}(t-1) << 1),  E_1 = M.
// Equal n-grams of the hypothesis have equal E. So it is the clipped count if each takes for itself one end that none
// before it has taken, any one, and adds nothing where all are taken: neither a table of n-grams nor a comparison of
// the hypothesis with itself is needed. A stretch of the reference begins with the last n - 1 tokens of the one before;
// an n-gram that took an end there takes none here, which is what stretches hand on, a bit a token.
#pragma once

#include "../rouge.h"
#include "matches.h"

namespace rlseq2seq {

template <int kN>
class NgramStepper {
 public:
  static constexpr int64_t kOverlap = kN - 1;

  static int32_t units(int32_t tokens) { return grams(tokens, kN); }

  explicit NgramStepper(int64_t) {}

  template <class Bits, class Index>
  int32_t count(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length) {
    State<Bits> state;
    int32_t common = 0;
    for (int64_t t = 0; t < length; ++t) common += state.take(matches.of(tokens[t]), false);
    return common;
  }

  // carries[t] is whether n-gram t has taken an end before this stretch, and becomes whether it has after it. Returns
  // how many have.
  template <bool kFirst, class Bits, class Index>
  int32_t carry(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length, uint8_t* carries) {
    State<Bits> state;
    int32_t common = 0;
    for (int64_t t = 0; t < length; ++t) {
      const uint8_t taken = kFirst ? 0 : carries[t];
      carries[t] = taken | state.take(matches.of(tokens[t]), taken);
      common += carries[t];
    }
    return common;
  }

  // The same, where a token that continues a word takes the place of the token before it.
  template <bool kFirst, class Bits, class Index>
  void carry_replacing(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length,
                       const bool* continues, uint8_t* carries) {
    State<Bits> state, before;
    for (int64_t t = 0; t < length; ++t) {
      if (continues[t]) {
        state = before;
      } else {
        before = state;
      }
      const uint8_t taken = kFirst ? 0 : carries[t];
      carries[t] = taken | state.take(matches.of(tokens[t]), taken);
    }
  }

 private:
  template <class Bits>
  struct State {
    Bits left = ~Bits{0};           // ends that no n-gram has taken
    std::array<Bits, kN> ends{};  // ends[i]: where the last i + 1 tokens end

    // Takes an end of the n-gram that ends with the token that stands at `hits`, unless it has one. Returns whether.
    uint8_t take(Bits hits, bool has_one) {
      for (int i = kN - 1; i > 0; --i) ends[i] = hits & (ends[i - 1] << 1);
      ends[0] = hits;
      const Bits free = has_one ? 0 : ends[kN - 1] & left;
      left ^= free & -free;
      return free != 0;
    }
  };
};

}  // namespace rlseq2seq
