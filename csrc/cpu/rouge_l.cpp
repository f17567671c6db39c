// ROUGE-L on the CPU: bit-parallel longest common subsequences.
//
// The dynamic programme's row over the reference is one bit vector V of one bit a reference token (Crochemore et al.
// 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem"; Hyyro 2004). With M the
// positions at which the reference holds the hypothesis's next token, a row follows from the one above as
//     V' = (V + (V & M)) | (V & ~M),
// and the carry out of the addition is what the row adds to the length: 0 or 1.
#include "../common.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace rlseq2seq {
namespace {

using Word = uint64_t;
constexpr int kWordBits = 64;

inline Word add_with_carry(Word a, Word b, unsigned char& carry) {
#ifdef __x86_64__
  unsigned long long sum;
  carry = _addcarry_u64(carry, a, b, &sum);
  return sum;
#else
  Word sum;
  const bool first = __builtin_add_overflow(a, b, &sum);
  const bool second = __builtin_add_overflow(sum, Word{carry}, &sum);
  carry = first | second;
  return sum;
#endif
}

// For each distinct token of a stretch of at most 64 * kWords reference tokens, the bit mask of where it stands.
//
// A chained hash table without branches on its common paths: with so many buckets to so few tokens a chain of two is
// rare, and a wrong guess by the branch predictor would cost as much as three whole look-ups.
template <int kWords>
class MatchTable {
 public:
  using Masks = std::array<Word, kWords>;
  static constexpr int kTokens = kWords * kWordBits;

  void fill(const int64_t* tokens, int64_t length) {
    clear();
    for (int64_t i = 0; i < length; ++i) {
      masks_[insert(tokens[i])][i / kWordBits] |= Word{1} << (i % kWordBits);
    }
  }

  const Masks& find(int64_t token) const {
    uint32_t slot = buckets_[bucket(token)];
    if (__builtin_expect(entries_[slot].next != 0, false)) {
      while (entries_[slot].token != token && entries_[slot].next != 0) slot = entries_[slot].next;
    }
    // Slot or 0, by arithmetic: whether a hypothesis's token is in the reference is what no predictor can guess.
    return masks_[slot & -static_cast<uint32_t>(entries_[slot].token == token)];
  }

 private:
  static constexpr int kBucketBits = 12;

  // Slot 0 is the token that is not there: never filled, its masks stay 0. The others have masks and next 0 when free.
  struct Entry {
    int64_t token;
    int32_t next;
    int32_t bucket;
  };

  static uint32_t bucket(int64_t token) {
    return static_cast<uint32_t>((static_cast<Word>(token) * 0x9E3779B97F4A7C15u) >> (kWordBits - kBucketBits));
  }

  int insert(int64_t token) {
    const uint32_t home = bucket(token);
    const int first = buckets_[home];
    int slot = first;
    bool there = (slot != 0) & (entries_[slot].token == token);
    if (__builtin_expect((slot != 0) & !there, false)) {
      while (!there && entries_[slot].next != 0) {
        slot = entries_[slot].next;
        there = entries_[slot].token == token;
      }
      if (!there) entries_[used_].next = first;
      if (there) return slot;
    }
    slot = there ? slot : used_;
    entries_[slot].token = token;
    entries_[slot].bucket = static_cast<int32_t>(home);
    buckets_[home] = static_cast<uint16_t>(slot);
    used_ += !there;
    return slot;
  }

  void clear() {
    for (int slot = 1; slot < used_; ++slot) {
      buckets_[entries_[slot].bucket] = 0;
      entries_[slot].next = 0;
      masks_[slot] = {};
    }
    used_ = 1;
  }

  int used_ = 1;
  std::array<uint16_t, 1 << kBucketBits> buckets_{};
  std::array<Entry, kTokens + 1> entries_{};
  std::array<Masks, kTokens + 1> masks_{};
};

// Takes the words of V that belong to one stretch of the reference through all tokens of a hypothesis. carries[t] is the
// carry into the stretch at token t and becomes the carry out of it. Bits past the end of the reference are never matched
// and stay 1, so a carry passes over them. Returns the sum of carries out.
template <int kWords, bool kFirst>
int32_t advance(const MatchTable<kWords>& table, const int64_t* tokens, int64_t length, uint8_t* carries) {
  std::array<Word, kWords> v;
  v.fill(~Word{0});
  int32_t sum_of_carries = 0;
  for (int64_t t = 0; t < length; ++t) {
    const auto& masks = table.find(tokens[t]);
    unsigned char carry = kFirst ? 0 : carries[t];
    for (int w = 0; w < kWords; ++w) {
      const Word matches = v[w] & masks[w];
      v[w] = add_with_carry(v[w], matches, carry) | (v[w] ^ matches);
    }
    carries[t] = carry;
    sum_of_carries += carry;
  }
  return sum_of_carries;
}

struct Scores {
  int32_t* lcs;
  float* precision;
  float* recall;
  float* fmeasure;

  // One correctly rounded division each, so that every device gives the same bits.
  void set(int64_t at, int32_t common, int64_t hypothesis, int64_t reference) const {
    const auto divided = [](float value, int64_t by) { return by == 0 ? 0.0f : value / static_cast<float>(by); };
    const auto value = static_cast<float>(common);
    lcs[at] = common;
    precision[at] = divided(value, hypothesis);
    recall[at] = divided(value, reference);
    fmeasure[at] = divided(2.0f * value, hypothesis + reference);
  }
};

// One reference and the hypotheses that share it.
struct Group {
  const int64_t* reference;
  int64_t reference_length;
  const int64_t* tokens;   // [count, time]
  const int64_t* lengths;  // [count]
  int64_t count;
  int64_t time;
};

template <int kWords>
class Scorer {
 public:
  Scorer(int64_t count, int64_t time) : carries_(count * time), common_(count) {}

  void score(const Group& group) {
    constexpr int64_t stretch = MatchTable<kWords>::kTokens;
    std::fill(common_.begin(), common_.end(), 0);
    if (group.reference_length == 0) std::fill(carries_.begin(), carries_.end(), 0);
    for (int64_t start = 0; start < group.reference_length; start += stretch) {
      table_.fill(group.reference + start, std::min(stretch, group.reference_length - start));
      for (int64_t h = 0; h < group.count; ++h) {
        const auto run = start == 0 ? advance<kWords, true> : advance<kWords, false>;
        common_[h] = run(table_, group.tokens + h * group.time, group.lengths[h], carries_.data() + h * group.time);
      }
    }
  }
  const uint8_t* carries(int64_t h, int64_t time) const { return carries_.data() + h * time; }
  int32_t common(int64_t h) const { return common_[h]; }

 private:
  MatchTable<kWords> table_;
  std::vector<uint8_t> carries_;
  std::vector<int32_t> common_;
};

template <int kWords>
void run(const RougeLShape& shape, const int64_t* tokens, const int64_t* lengths, const int64_t* gold,
         const int64_t* gold_lengths, bool prefixes, const Scores& scores) {
  at::parallel_for(0, shape.references, 1 + 20000 / (shape.reference_time + shape.shared * shape.time + 1), [&](int64_t begin, int64_t end) {
    Scorer<kWords> scorer(shape.shared, shape.time);
    for (int64_t r = begin; r < end; ++r) {
      scorer.score({gold + r * shape.reference_time, gold_lengths[r], tokens + r * shape.shared * shape.time,
                    lengths + r * shape.shared, shape.shared, shape.time});
      for (int64_t i = 0; i < shape.shared; ++i) {
        const int64_t h = r * shape.shared + i, length = lengths[h];
        if (!prefixes) {
          scores.set(h, scorer.common(i), length, gold_lengths[r]);
          continue;
        }
        int32_t common = 0;
        const uint8_t* carries = scorer.carries(i, shape.time);
        for (int64_t t = 0; t < length; ++t) {
          common += carries[t];
          scores.set(h * shape.time + t, common, t + 1, gold_lengths[r]);
        }
        for (int64_t t = length; t < shape.time; ++t) scores.set(h * shape.time + t, common, length, gold_lengths[r]);
      }
    }
  });
}

void check_lengths(const int64_t* lengths, int64_t count, int64_t limit, const char* name) {
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_VALUE(lengths[i] >= 0 && lengths[i] <= limit, "rouge_l: ", name, "[", i, "] is ", lengths[i],
                      ", outside 0 to ", limit, ".");
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> rouge_l_cpu(const at::Tensor& hypotheses,
                                                                       const at::Tensor& hypothesis_lengths,
                                                                       const at::Tensor& references,
                                                                       const at::Tensor& reference_lengths,
                                                                       bool prefixes) {
  const RougeLShape shape = check_rouge_l(hypotheses, hypothesis_lengths, references, reference_lengths);
  const at::Tensor hypotheses_ = hypotheses.contiguous(), hypothesis_lengths_ = hypothesis_lengths.contiguous();
  const at::Tensor references_ = references.contiguous(), reference_lengths_ = reference_lengths.contiguous();
  const auto* tokens = hypotheses_.const_data_ptr<int64_t>();
  const auto* lengths = hypothesis_lengths_.const_data_ptr<int64_t>();
  const auto* gold = references_.const_data_ptr<int64_t>();
  const auto* gold_lengths = reference_lengths_.const_data_ptr<int64_t>();
  check_lengths(lengths, shape.hypotheses, shape.time, "hypothesis_lengths");
  check_lengths(gold_lengths, shape.references, shape.reference_time, "reference_lengths");

  const std::vector<int64_t> sizes =
      prefixes ? std::vector<int64_t>{shape.hypotheses, shape.time} : std::vector<int64_t>{shape.hypotheses};
  const auto result = [&](at::ScalarType type) { return at::empty(sizes, hypotheses.options().dtype(type)); };
  const at::Tensor lcs = result(at::kInt), precision = result(at::kFloat), recall = result(at::kFloat),
                   fmeasure = result(at::kFloat);
  const Scores scores{lcs.mutable_data_ptr<int32_t>(), precision.mutable_data_ptr<float>(),
                      recall.mutable_data_ptr<float>(), fmeasure.mutable_data_ptr<float>()};

  const auto chosen = shape.reference_time <= 64 ? run<1> : shape.reference_time <= 128 ? run<2> : run<4>;
  chosen(shape, tokens, lengths, gold, gold_lengths, prefixes, scores);
  return {lcs, precision, recall, fmeasure};
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("rouge_l", &rouge_l_cpu); }

}  // namespace rlseq2seq
