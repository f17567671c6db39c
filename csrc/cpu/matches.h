// Where a reference holds the next word of a hypothesis, as a bit mask. Plain C++, no torch.
//
// A reference is cut into stretches of 63 or 127 words, one machine integer each, whose top bit belongs to no word.
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
  explicit DirectIndex(size_t ids) : ids_(ids), slots_(ids + 1) {}

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
    const size_t slot = slots_[std::min(static_cast<uint64_t>(token), ids_)];
    found = slot != 0;
    return slot;
  }

 private:
  const uint64_t ids_;
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

  // Not inlined, for the registers.
  __attribute__((noinline)) void fill(const int64_t* tokens, int64_t length) {
    index_.reset(tokens, length);
    size_t i = 0;
    for (size_t word = 0; word < kWords; ++word) {
      uint64_t bit = 1;
      for (const size_t end = std::min(static_cast<size_t>(length), 64 * (word + 1)); i < end; ++i, bit <<= 1) {
        const size_t before = index_.put(tokens[i], i + 1);
        for (size_t w = 0; w < word; ++w) masks_[w][i + 1] = masks_[w][before];
        masks_[word][i + 1] = masks_[word][before] | bit;
      }
    }
  }

  size_t find(int64_t token, bool& found) const { return index_.find(token, found); }

  Bits at(size_t slot) const {
    Bits bits = masks_[0][slot];
    if constexpr (kWords == 2) bits |= static_cast<Bits>(masks_[1][slot]) << 64;
    return bits;
  }

  // The bits at which the token stands: none set if it is not there.
  Bits of(int64_t token) const {
    bool found;
    const size_t slot = find(token, found);
    return at(slot & -static_cast<size_t>(found));
  }

 private:
  static constexpr size_t kWords = sizeof(Bits) / 8;

  Index& index_;
  std::array<std::array<uint64_t, kTokens + 1>, kWords> masks_{};
};

}  // namespace rlseq2seq
