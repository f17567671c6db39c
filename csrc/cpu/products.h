// The output layer of the search steps on the CPU.
#pragma once

#include <cstdint>

namespace rlseq2seq {

// out[n, v] <- features[n] . weight[v] + bias[v] for N rows and tokens v of a stretch of the vocabulary; rows of `out`
// are `stride` apart. Each number is added up in the same order whatever N is.
void products(const float* features, int64_t rows, const float* weight, const float* bias, int64_t tokens,
              int64_t width, float* out, int64_t stride);

}  // namespace rlseq2seq
