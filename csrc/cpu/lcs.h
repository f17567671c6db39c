// Longest common subsequences, bit-parallel, of many hypotheses with one reference. Plain C++, no torch.
//
// The row of the dynamic programme over a reference is a bit vector V, one bit a token. With M the positions at which
// the reference holds the next token of the hypothesis, a row follows from the one above it as
//     V' = (V + (V & M)) | (V & ~M)
// and what the row adds to the length, 0 or 1, is the carry out of the addition (Crochemore et al. 2001, "A fast and
// practical bit-vector algorithm for the longest common subsequence problem"; Hyyro 2004, "Bit-parallel LCS-length
// computation revisited").
//
// A reference is cut into stretches of 63 or 127 tokens, one machine integer each. Its top bit belongs to no token, so
// it never matches and stays 1, except that it is 0 in a sum from which a carry comes: no carry flag is needed. A
// stretch hands its carries, one a token of the hypothesis, on to the next, so memory does not grow with the reference.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rlseq2seq {

constexpr size_t kMostTokens = 127;  // of a stretch

// An index tells which slot a token has. Position i of a stretch puts its token into slot i + 1; slot 0 is nobody's.
// Whether a token repeats, or is in the reference at all, is what a branch predictor cannot guess, and a wrong guess
// costs as much as several look-ups: neither is branched on.

// For tokens in 0 .. ids - 1: an array.
class DirectIndex {
 public:
  explicit DirectIndex(size_t ids) : slots_(ids) {}

  // Forgets all tokens. The index will hold some of these.
  void reset(const int64_t* tokens, int64_t length) {
    for (int64_t i = 0; i < length_; ++i) slots_[tokens_[i]] = 0;
    tokens_ = tokens;
    length_ = length;
  }

  // Returns the slot that the token had, or 0.
  size_t put(int64_t token, size_t slot) {
    const size_t before = slots_[token];
    slots_[token] = static_cast<uint16_t>(slot);
    return before;
  }

  // The last slot of any token, or, if not `found`, any slot.
  size_t find(int64_t token, bool& found) const {
    const size_t slot = static_cast<uint64_t>(token) < slots_.size() ? slots_[token] : 0;
    found = slot != 0;
    return slot;
  }

 private:
  std::vector<uint16_t> slots_;  // not bytes: to the compiler, a byte that is stored may be part of anything it holds
  const int64_t* tokens_ = nullptr;
  int64_t length_ = 0;
};

// For any tokens: a hash table of buckets, small enough to be cleared for each stretch, and large enough that buckets
// of two tokens are rare; on those it does branch.
class HashIndex {
 public:
  explicit HashIndex(size_t) {}

  void reset(const int64_t*, int64_t) {
    heads_.fill(0);
    next_.fill(0);
  }

  size_t put(int64_t token, size_t slot) {
    uint8_t& head = heads_[bucket(token)];
    const size_t before = head;
    const size_t same = -static_cast<size_t>(tokens_[before] == token);  // all ones or none
    // The rest of the chain: the slot takes the place of one of the same token.
    const size_t next = before ^ ((before ^ next_[before]) & same);  // same ? next_[before] : before
    head = static_cast<uint8_t>(slot);
    tokens_[slot] = token;
    return __builtin_expect(next != 0, false) ? link(slot, next, before & same) : before & same;
  }

  size_t find(int64_t token, bool& found) const {
    size_t slot = heads_[bucket(token)];
    if (__builtin_expect(next_[slot] != 0, false)) {
      while (tokens_[slot] != token && next_[slot] != 0) slot = next_[slot];
    }
    found = tokens_[slot] == token;
    return slot;
  }

 private:
  static constexpr int kBucketBits = 11;

  static size_t bucket(int64_t token) {
    return (static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15u) >> (64 - kBucketBits);
  }

  // Puts a chain behind the slot. Unless its token was the head before, it may yet be in the chain.
  size_t link(size_t slot, size_t next, size_t before) {
    next_[slot] = static_cast<uint8_t>(next);
    if (before != 0) return before;
    while (next != 0 && tokens_[next] != tokens_[slot]) next = next_[next];
    return next;
  }

  std::array<uint8_t, size_t{1} << kBucketBits> heads_{};
  std::array<uint8_t, kMostTokens + 1> next_{};
  std::array<int64_t, kMostTokens + 1> tokens_{};
};

// For each slot of an index, the bits at which its token stands.
template <class Bits, class Index>
class Matches {
 public:
  static constexpr int64_t kTokens = 8 * sizeof(Bits) - 1;

  explicit Matches(Index& index) : index_(index) {}

  void fill(const int64_t* tokens, int64_t length) {
    index_.reset(tokens, length);
    size_t i = 0;
    for (size_t word = 0; word < kWords; ++word) {
      uint64_t bit = 1;
      for (const size_t end = std::min(static_cast<size_t>(length), 64 * (word + 1)); i < end; ++i, bit <<= 1) {
        const auto& before = masks_[index_.put(tokens[i], i + 1)];
        for (size_t w = 0; w < kWords; ++w) masks_[i + 1][w] = before[w] | (w == word ? bit : 0);
      }
    }
  }

  size_t find(int64_t token, bool& found) const { return index_.find(token, found); }

  Bits at(size_t slot) const {
    Bits bits = masks_[slot][0];
    if constexpr (kWords == 2) bits |= static_cast<Bits>(masks_[slot][1]) << 64;
    return bits;
  }

 private:
  static constexpr size_t kWords = sizeof(Bits) / 8;

  Index& index_;
  std::array<std::array<uint64_t, kWords>, kTokens + 1> masks_{};
};

// Takes hypotheses of at most `time` tokens through a stretch of the reference. A token that neither matches nor has a
// carry changes nothing, so only the others are stepped through.
class Stepper {
 public:
  explicit Stepper(int64_t time) : steps_(static_cast<size_t>(time)) {}

  // The length of the common subsequence, if the stretch is the whole reference.
  template <class Bits, class Index>
  int32_t count(const Matches<Bits, Index>& matches, const int64_t* tokens, int64_t length) {
    Step* const steps = steps_.data();
    size_t steps_taken = 0;
    for (int64_t t = 0; t < length; ++t) {
      bool found;
      steps[steps_taken].slot = static_cast<uint32_t>(matches.find(tokens[t], found));
      steps_taken += found;
    }
    Bits v = ~Bits{0};
    for (size_t i = 0; i < steps_taken; ++i) {
      const Bits hits = v & matches.at(steps[i].slot);
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

 private:
  struct Step {
    uint32_t time;
    uint32_t slot;
  };
  std::vector<Step> steps_;
};

}  // namespace rlseq2seq
