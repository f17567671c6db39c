// What the CPU and CUDA kernels of the search steps share: sizes, addresses and the columns of a row. No torch, so that
// nvcc compiles it by itself.
//
// A row is a next-token distribution (contracts.py: Mixture). Its columns are the V logits of the vocabulary and then
// one column for each extended token of its source. What can also be copied is patched in place: nothing of the size of
// the extended distribution is ever built beside the logits. Both are taken in chunks of the vocabulary and one more
// chunk, of all extended columns, whatever their number.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RLSEQ2SEQ_SEARCH_INLINE __host__ __device__ __forceinline__
#else
#define RLSEQ2SEQ_SEARCH_INLINE inline
#endif

namespace rlseq2seq {

constexpr int64_t kEndToken = 3;  // as in rlseq2seq/token_ids.py
constexpr int64_t kChunk = 256;   // tokens of the vocabulary
constexpr int64_t kMostBeams = 1024;

struct Bfloat16 {
  uint16_t bits;  // the upper half of a float
};

struct SearchShape {
  int64_t rows;        // N
  int64_t vocabulary;  // V
  int64_t stride;      // from a row of logits to the next: V, rounded up to whole vectors of 16 bytes
  int64_t sources;     // B; row n belongs to source n / shared
  int64_t shared;      // N / B
  int64_t width;       // S, or 0 for a model that cannot copy

  RLSEQ2SEQ_SEARCH_INLINE int64_t chunks() const { return (vocabulary + kChunk - 1) / kChunk; }  // of the vocabulary
};

// `logits` and `extended` are scratch that the kernels may write to. In is the type of the tensors, T that of sums.
template <class In, class T>
struct SearchRows {
  SearchShape shape;
  T* logits;                  // [N, stride]
  T* extended;                // [N, S], the extended columns
  const In* gate_logits;      // [N], or null for a model that cannot copy
  const In* attention;        // [N, S]
  const int64_t* source_ids;  // [B, S]
};

struct SamplingOptions {
  double temperature;
  int64_t top_k;  // 0: all
  double top_p;   // 1 or more: all

  RLSEQ2SEQ_SEARCH_INLINE bool filtered() const { return top_k > 0 || top_p < 1; }
  RLSEQ2SEQ_SEARCH_INLINE bool shaped() const { return filtered() || temperature != 1; }
};

struct BeamRules {
  double length_penalty;
  int64_t block_ngrams;
  int64_t min_tokens;
};

// B sources of K hypotheses with room for T tokens, of which `step` are written.
struct BeamShape {
  int64_t sources;
  int64_t beam;
  int64_t time;
  int64_t step;
};

template <class T>
struct BeamInputs {
  const int64_t* tokens;           // [B, K, T]
  const T* scores;                 // [B, K]
  const int64_t* finished_tokens;  // [B, K, T]
  const T* finished_scores;        // [B, K]
};

template <class T>
struct BeamOutputs {
  int64_t* tokens;
  T* scores;
  int64_t* finished_tokens;
  T* finished_scores;
  int64_t* rows;    // [B * K]
  int64_t* chosen;  // [B * K]
};

// The best extensions of each row, best first: their totals and tokens, -inf where there is none.
template <class T>
struct BeamCandidates {
  T* totals;        // [B * K, K]
  int64_t* tokens;  // [B * K, K]
};

}  // namespace rlseq2seq
