// Longest common subsequences, bit-parallel, of many hypotheses with one reference. Plain C++, no torch.
//
// The row of the dynamic programme over a reference is a bit vector V, one bit a token. With M the positions at which
// the reference holds the next token of the hypothesis, a row follows from the one above it as
//     V' = (V + (V & M)) | (V & ~M)
// and what the row adds to the length, 0 or 1, is the carry out of the addition (Crochemore et al. 2001, "A fast and
// practical bit-vector algorithm for the longest common subsequence problem"; Hyyro 2004, "Bit-parallel LCS-length
// computation revisited").
//
// The top bit of a stretch of the reference belongs to no token, so it never matches and stays 1, except that it is 0
// in a sum from which a carry comes: no carry flag is needed. A stretch hands its carries, one a token of the
// hypothesis, on to the next, so memory does not grow with the reference.
#pragma once

#include "matches.h"

namespace rlseq2seq {

// Takes hypotheses of at most `time` tokens through a stretch of the reference. A token that neither matches nor has a
// carry changes nothing, so only the others are stepped through.
class LcsStepper {
 public:
  static constexpr int64_t kOverlap = 0;  // stretches of the reference have no token in common

  // What lengths are counted in: tokens.
  static int32_t units(int32_t tokens) { return tokens; }

  explicit LcsStepper(int64_t time) : steps_(static_cast<size_t>(time)), slots_(static_cast<size_t>(time)) {}

  // The length of the common subsequence, if the stretch is the whole reference.
  template <class Bits, class Index>
  // Not inlined: beside its caller's variables, a wide v would be kept in memory.
  __attribute__((noinline)) int32_t count(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length) {
    uint32_t* const slots = slots_.data();
    size_t steps_taken = 0;
    for (int64_t t = 0; t < length; ++t) {
      bool found;
      slots[steps_taken] = static_cast<uint32_t>(matches.find(tokens[t], found));
      steps_taken += found;
    }
    Bits v = ~Bits{0};
    for (size_t i = 0; i < steps_taken; ++i) {
      const Bits hits = v & matches.at(slots[i]);
      v = (v + hits) | (v ^ hits);
    }
    constexpr int half = 4 * sizeof(Bits);  // a shift by all bits would be undefined for the narrow integer
    return __builtin_popcountll(static_cast<uint64_t>(~v)) +
           (sizeof(Bits) > 8 ? __builtin_popcountll(static_cast<uint64_t>(~v >> half)) : 0);
  }

  // carries[t] is what comes into the stretch at token t and becomes what goes out of it; nothing comes into the first
  // stretch, whatever stands there. Returns how many go out.
  template <bool kFirst, class Bits, class Index>
  int32_t carry(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length, uint8_t* carries) {
    if (kFirst) std::fill_n(carries, length, uint8_t{0});
    Step* const steps = steps_.data();
    size_t steps_taken = 0;
    for (int64_t t = 0; t < length; ++t) {
      bool found;
      const size_t slot = matches.find(tokens[t], found);
      steps[steps_taken] = {static_cast<uint32_t>(t), static_cast<uint32_t>(kFirst || found ? slot : 0)};
      steps_taken += kFirst ? found : found | carries[t];
    }
    Bits v = ~Bits{0};
    int32_t sum_of_carries = 0;
    for (size_t i = 0; i < steps_taken; ++i) {
      uint8_t& carried = carries[steps[i].time];
      const Bits hits = v & matches.at(steps[i].slot);
      const Bits sum = kFirst ? v + hits : v + hits + carried;
      carried = 1 ^ static_cast<uint8_t>(sum >> matches.kTokens);
      sum_of_carries += carried;
      v = sum | (v ^ hits);
    }
    return sum_of_carries;
  }

  // The same, where a token that continues a word takes the place of the token before it: it goes on from the row from
  // which that one went on. Every token is stepped through, as each may be gone back to.
  template <bool kFirst, class Bits, class Index>
  void carry_replacing(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length,
                       const bool* continues, uint8_t* carries) {
    Bits v = ~Bits{0}, before = v;
    for (int64_t t = 0; t < length; ++t) {
      before = continues[t] ? before : v;
      const Bits hits = before & matches.of(tokens[t]);
      const Bits sum = kFirst ? before + hits : before + hits + carries[t];
      carries[t] = 1 ^ static_cast<uint8_t>(sum >> matches.kTokens);
      v = sum | (before ^ hits);
    }
  }

 private:
  struct Step {
    uint32_t time;
    uint32_t slot;
  };
  std::vector<Step> steps_;
  std::vector<uint32_t> slots_;
};

}  // namespace rlseq2seq
