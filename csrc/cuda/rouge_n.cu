// ROUGE-N on CUDA: a warp a hypothesis, bit-parallel (rouge_kernel.h). How the n-grams are counted is told in
// csrc/cpu/ngrams.h.
//
// Counted, for a hypothesis of T tokens (from the machine code for sm_90):
//   bytes         as rouge_l: 8 T + 8 U read, 16 written (16 T for prefixes), each once and coalesced
//   instructions  57 a token for a reference of up to 63, 97 for one of 64 to 127: matches as in rouge_l, and the ends
//                 of 1 to 4 tokens where n is not 1, all of which are kept up since n is not known to the compiler
//   registers     56 and 72 a thread, no shared memory, no spills
// As of rouge_l, a batch of 320 x 100 takes as long as one warp, which should be some 5 us; the n-grams of the
// reference are never built, so n costs nothing more.
#include "rouge_kernel.h"

namespace rlseq2seq {
namespace {

// Where the last 1 to 4 tokens of the hypothesis end in the reference, and which ends of n-grams are left.
template <class Bits>
struct Ngrams {
  int32_t n;
  Bits left = ~Bits{0};
  Bits ends[kMostGram - 1] = {};  // ends[i]: of the last i + 1 tokens; those of n tokens need not be kept

  explicit Ngrams(int32_t gram) : n(gram) {}

  __device__ int32_t units(int32_t tokens) const { return grams(tokens, n); }
  __device__ int32_t overlap() const { return n - 1; }

  // Takes an end of the n-gram whose last token the reference holds at `matches`, unless it has one already. Returns
  // whether it has one now.
  __device__ uint32_t step(Bits matches, uint32_t has_one) {
    Bits found = matches;
    if (n > 1) {
#pragma unroll
      for (int i = kMostGram - 2; i >= 0; --i) {
        const Bits longer = matches & ends[i] << 1;
        if (i == n - 2) found = longer;
        if (i + 1 < kMostGram - 1) ends[i + 1] = longer;
      }
      ends[0] = matches;
    }
    const Bits free = has_one != 0 ? Bits{0} : found & left;
    left ^= free & -free;
    return has_one | static_cast<uint32_t>(free != 0);
  }
};

}  // namespace

cudaError_t launch_rouge_n(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores, int32_t n,
                           bool prefixes, uint32_t* carries, cudaStream_t stream) {
  if (shape.reference_time <= kTop<Narrow>) {
    return launch(shape, inputs, scores, prefixes, Ngrams<Narrow>(n), carries, stream);
  }
  return launch(shape, inputs, scores, prefixes, Ngrams<Wide>(n), carries, stream);
}

}  // namespace rlseq2seq
