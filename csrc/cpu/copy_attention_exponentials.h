// Exponentials of queries and keys for copy_attention on the CPU: what is made once for all rows that share a key.
#pragma once

#include "../copy_attention.h"
#include "copy_attention_loops.h"

#include <ATen/Parallel.h>

#include <cstdint>
#include <type_traits>
#include <vector>

namespace rlseq2seq::attention {

// To wake a thread pays from about this many additions and multiplications on; a tanh counts as 16 of them.
constexpr int64_t kOperationsAThread = 32768;
constexpr int64_t kTanh = 16;

inline int64_t grain(int64_t operations) { return 1 + kOperationsAThread / (1 + operations); }

// Exponentials of the queries, where rows share keys and energies are sums of tanh(k + q) alone. Otherwise empty.
struct QueryExponentials {
  std::vector<float> all;      // [N, A]
  std::vector<char> in_range;  // [N]
  float score_sum = 0;

  explicit operator bool() const { return !in_range.empty(); }
};

template <class T>
QueryExponentials query_exponentials(const AttentionShape& s, const AttentionInputs<T, T>& in) {
  QueryExponentials queries;
  if constexpr (std::is_same_v<T, float>) {
    if (s.shared < 2 || in.score_weight == nullptr || in.coverage != nullptr) return queries;
    queries.all.resize(s.rows * s.score_size);
    queries.in_range.resize(s.rows);
    at::parallel_for(0, s.rows, grain(kTanh * s.score_size), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t at = n * s.score_size;
        queries.in_range[n] = exponentials(in.query + at, queries.all.data() + at, s.score_size);
      }
    });
    for (int64_t a = 0; a < s.score_size; ++a) queries.score_sum += in.score_weight[a];
  }
  return queries;
}

// Exponentials of one key, or null where they are of no use.
template <class T>
const float* key_exponentials(const QueryExponentials& queries, const T* key, std::vector<float>& room, int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    if (!queries) return nullptr;
    room.resize(n);
    if (exponentials(key, room.data(), n)) return room.data();
  }
  return nullptr;
}

// What all positions of a job have in common: exponentials of the queries, and room for those of one key.
struct Exponentials {
  const QueryExponentials& queries;
  std::vector<float> room;
};

}  // namespace rlseq2seq::attention
