// Longest common subsequences, bit-parallel, of many hypotheses with one reference. Plain C++, no torch.
//
// The row of the dynamic programme over a reference is a bit vector V, one bit a token. With M the positions at which the
// reference holds the next token of the hypothesis, a row follows from the one above it as
//     V' = (V + (V & M)) | (V & ~M)
// and what the row adds to the length, 0 or 1, is the carry out of the addition (Crochemore et al. 2001, "A fast and
// practical bit-vector algorithm for the longest common subsequence problem"; Hyyro 2004, "Bit-parallel LCS-length
// computation revisited").
//
// A reference is cut into stretches of 63 or 127 tokens, one machine integer each. Its top bit belongs to no token, so it
// never matches and stays 1, except that it is 0 in a sum from which a carry comes: no carry flag is needed. A stretch
// hands its carries, one a token of the hypothesis, on to the next, so memory does not grow with the reference.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rlseq2seq {

// For each distinct token of a stretch, the bits at which it stands; found by a chained hash table.
//
// Whether a token repeats, or is in the reference at all, is what a branch predictor cannot guess, and a wrong guess costs
// as much as several look-ups. So neither is branched on, but the rare chain of two tokens in a bucket is.
template <class Bits>
class Matches {
 public:
  static constexpr int64_t kTokens = 8 * sizeof(Bits) - 1;

  void fill(const int64_t* tokens, int64_t length) {
    for (size_t slot = 1; slot <= filled_; ++slot) heads_[bucket(tokens_[slot])] = 0;
    filled_ = static_cast<size_t>(length);
    size_t slot = 1;
    for (size_t word = 0; slot <= filled_; ++word) {
      uint64_t bit = 1;
      for (const size_t end = std::min(filled_, 64 * (word + 1)); slot <= end; ++slot, bit <<= 1) {
        masks_[insert(tokens[slot - 1], slot)][word] |= bit;
      }
    }
  }

  // The slot in which the token is or would be; `found` tells which.
  size_t find(int64_t token, bool& found) const {
    size_t slot = heads_[bucket(token)];
    if (__builtin_expect(next_[slot] != 0, false)) {
      while (tokens_[slot] != token && next_[slot] != 0) slot = next_[slot];
    }
    found = tokens_[slot] == token;
    return slot;
  }

  Bits at(size_t slot) const {
    Bits bits = masks_[slot][0];
    if constexpr (kWords == 2) bits |= static_cast<Bits>(masks_[slot][1]) << 64;
    return bits;
  }

 private:
  static constexpr size_t kWords = sizeof(Bits) / 8;
  static constexpr int kBucketBits = 12;  // 4 KiB, a quarter or less of a first-level cache; chains are rare

  static size_t bucket(int64_t token) {
    return (static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15u) >> (64 - kBucketBits);
  }

  // Returns the slot of the token: `fresh`, the slot of its position, unless it stands in the reference before.
  size_t insert(int64_t token, size_t fresh) {
    const size_t home = bucket(token);
    const size_t head = heads_[home];
    const size_t taken = head != 0;
    const size_t same = taken & (tokens_[head] == token);
    tokens_[fresh] = token;
    next_[fresh] = 0;
    masks_[fresh] = {};
    size_t slot = fresh ^ ((fresh ^ head) & -same);  // same ? head : fresh
    if (__builtin_expect(taken ^ same, false)) {
      for (slot = head; slot != 0 && tokens_[slot] != token;) slot = next_[slot];
      if (slot != 0) return slot;
      slot = fresh;
      next_[slot] = static_cast<uint8_t>(head);
    }
    heads_[home] = static_cast<uint8_t>(slot);
    return slot;
  }

  // Slot i + 1 belongs to position i of the stretch. Slot 0 has no bits: it stands for what is not in the reference.
  size_t filled_ = 0;
  std::array<uint8_t, size_t{1} << kBucketBits> heads_{};
  std::array<uint8_t, kTokens + 1> next_{};
  std::array<int64_t, kTokens + 1> tokens_{};
  std::array<std::array<uint64_t, kWords>, kTokens + 1> masks_{};
};

// Takes hypotheses of at most `time` tokens through a stretch of the reference.
class Stepper {
 public:
  explicit Stepper(int64_t time) : steps_(static_cast<size_t>(time)) {}

  // carries[t] is what comes into the stretch at token t and becomes what goes out of it; nothing comes into the first
  // stretch, whatever stands there. Returns how many go out.
  template <bool kFirst, class Bits>
  int32_t run(const Matches<Bits>& matches, const int64_t* tokens, int64_t length, uint8_t* carries) {
    if (kFirst) std::fill_n(carries, length, uint8_t{0});
    Step* const steps = steps_.data();
    // A token that neither matches nor has a carry changes nothing. Only the others are stepped through.
    size_t count = 0;
    for (int64_t t = 0; t < length; ++t) {
      bool found;
      const size_t slot = matches.find(tokens[t], found);
      steps[count] = {static_cast<uint32_t>(t), static_cast<uint32_t>(kFirst || found ? slot : 0)};
      count += kFirst ? found : found | carries[t];
    }
    Bits v = ~Bits{0};
    int32_t sum_of_carries = 0;
    for (size_t i = 0; i < count; ++i) {
      uint8_t& carry = carries[steps[i].time];
      const Bits hits = v & matches.at(steps[i].slot);
      const Bits sum = kFirst ? v + hits : v + hits + carry;
      carry = 1 ^ static_cast<uint8_t>(sum >> Matches<Bits>::kTokens);
      sum_of_carries += carry;
      v = sum | (v ^ hits);
    }
    return sum_of_carries;
  }

 private:
  struct Step {
    uint32_t time;
    uint32_t slot;
  };
  std::vector<Step> steps_;
};

}  // namespace rlseq2seq
