// What the CPU and CUDA kernels of rouge_l and rouge_n share: sizes, addresses, and the one formula of the scores. No
// torch, so that nvcc compiles it by itself.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RLSEQ2SEQ_HOST_DEVICE __host__ __device__
#else
#define RLSEQ2SEQ_HOST_DEVICE
#endif

namespace rlseq2seq {

constexpr int64_t kMostGram = 4;  // tokens of the longest n-gram that rouge_n counts

struct RougeShape {
  int64_t hypotheses;      // N
  int64_t time;            // T, columns of the hypotheses
  int64_t references;      // M
  int64_t reference_time;  // U, columns of the references
  int64_t shared;          // hypotheses that share a reference, N / M
  int64_t ends;            // E, columns of the ends, if there are any
};

struct RougeInputs {
  const int64_t* hypotheses;          // [N, T]
  const int64_t* hypothesis_lengths;  // [N]
  const int64_t* references;          // [M, U]
  const int64_t* reference_lengths;   // [M]
  const bool* continues;              // [N, T]: true where a column takes the place of the one before it
  const int64_t* ends;                // [N, E]: of how many columns a score is asked
  bool grow;                          // whether there are those two; without elements they too have no address
};

// [N], or [N, T] for prefixes, or [N, E] where there are ends.
struct RougeScores {
  int32_t* common;
  float* precision;
  float* recall;
  float* fmeasure;

  // One correctly rounded division each, so that every device gives the same bits. Lengths, of which `common` are in
  // common, are in tokens or in n-grams, and below 2^30.
  RLSEQ2SEQ_HOST_DEVICE void set(int64_t at, int32_t both_have, int32_t hypothesis_length,
                                 int32_t reference_length) const {
    const auto value = static_cast<float>(both_have);
    common[at] = both_have;
    precision[at] = hypothesis_length == 0 ? 0.0f : value / static_cast<float>(hypothesis_length);
    recall[at] = reference_length == 0 ? 0.0f : value / static_cast<float>(reference_length);
    const int32_t both = hypothesis_length + reference_length;
    fmeasure[at] = both == 0 ? 0.0f : 2.0f * value / static_cast<float>(both);
  }
};

// N-grams in so many tokens.
RLSEQ2SEQ_HOST_DEVICE inline int32_t grams(int32_t tokens, int32_t n) { return tokens < n ? 0 : tokens - n + 1; }

}  // namespace rlseq2seq
