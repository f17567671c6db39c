// Passes over a row of the search steps, as vector instructions. In double precision each agrees with the C library.
#pragma once

#include <cstdint>

namespace rlseq2seq {

struct Above {
  int64_t count;
  double mass;
};

#define RLSEQ2SEQ_ROW_PASSES(T)                                                                                     \
  T largest(const T* x, int64_t size); /* -inf for none; nan is passed over */                                      \
  /* For each chunk of the row: its largest value; the sum of exp(x - subtracted). */                               \
  void chunk_maxima(const T* row, int64_t size, T* maxima);                                                         \
  void chunk_sums(const T* row, int64_t size, T subtracted, T* sums);                                               \
  /* row <- exp((row - subtracted) * scale), and the sum of each chunk of that. */                                  \
  void chunk_weights(T* row, int64_t size, T subtracted, T scale, T* sums);                                         \
  /* How many weights are above the threshold, and their sum. */                                                    \
  Above above(const T* weights, int64_t size, T threshold);                                                      \
  /* logits <- log(exp(logits) + exp(log(masses) + offset)); masses are normal numbers. */                          \
  void add_copies(T* logits, const T* masses, int64_t size, T offset);

RLSEQ2SEQ_ROW_PASSES(float)
RLSEQ2SEQ_ROW_PASSES(double)
#undef RLSEQ2SEQ_ROW_PASSES

}  // namespace rlseq2seq
