// What the CPU and CUDA kernels of rouge_l share: sizes, addresses, and the one formula of the scores. No torch, so
// that nvcc compiles it by itself.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RLSEQ2SEQ_HOST_DEVICE __host__ __device__
#else
#define RLSEQ2SEQ_HOST_DEVICE
#endif

namespace rlseq2seq {

struct RougeLShape {
  int64_t hypotheses;      // N
  int64_t time;            // T, columns of the hypotheses
  int64_t references;      // M
  int64_t reference_time;  // U, columns of the references
  int64_t shared;          // hypotheses that share a reference, N / M
};

struct RougeLInputs {
  const int64_t* hypotheses;          // [N, T]
  const int64_t* hypothesis_lengths;  // [N]
  const int64_t* references;          // [M, U]
  const int64_t* reference_lengths;   // [M]
};

// [N], or [N, T] for prefixes.
struct RougeLScores {
  int32_t* lcs;
  float* precision;
  float* recall;
  float* fmeasure;

  // One correctly rounded division each, so that every device gives the same bits. Lengths are below 2^30.
  RLSEQ2SEQ_HOST_DEVICE void set(int64_t at, int32_t common, int32_t hypothesis_length,
                                 int32_t reference_length) const {
    const auto value = static_cast<float>(common);
    lcs[at] = common;
    precision[at] = hypothesis_length == 0 ? 0.0f : value / static_cast<float>(hypothesis_length);
    recall[at] = reference_length == 0 ? 0.0f : value / static_cast<float>(reference_length);
    const int32_t both = hypothesis_length + reference_length;
    fmeasure[at] = both == 0 ? 0.0f : 2.0f * value / static_cast<float>(both);
  }
};

}  // namespace rlseq2seq
