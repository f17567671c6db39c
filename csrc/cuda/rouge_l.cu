// ROUGE-L on CUDA: a warp a hypothesis, bit-parallel (rouge_kernel.h). The recurrence and the trick with the top bit
// are told in csrc/cpu/lcs.h.
//
// Counted, for a hypothesis of T tokens and a reference of 64 to 127 (from the machine code for sm_90):
//   bytes         8 T + 8 U read, 16 written (16 T for prefixes), each once and coalesced
//   instructions  35 a token: 2 shuffles, 8 comparisons, 4 ballots, 12 for V & M, the sum and V', 9 for carry and loop;
//                 the scores of prefixes, 32 columns at once, add 3 a token
//   registers     56 a thread, no shared memory: 36 warps an SM
// Where words grow it is 48 a token and 72 registers, and 1 byte more is read a column and 8 a score.
// A batch of 320 x 100 tokens is 0.5 MB and 320 warps, fewer than the 528 schedulers of an H100, so it takes as long as
// one warp: 100 tokens at some 40 cycles, 2 us, no more than a launch. From thousands of hypotheses on the bound is
// instructions: 3,500 a pair, 270 million pairs a second at 1.8 GHz, with 0.4 TB/s of memory traffic an eighth of what
// there is.
#include "rouge_kernel.h"

namespace rlseq2seq {
namespace {

// A row of the dynamic programme.
template <class Bits>
struct Lcs {
  Bits v = ~Bits{0};

  static __device__ int32_t units(int32_t tokens) { return tokens; }
  static __device__ int32_t overlap() { return 0; }

  // The row below, for a token that the reference holds at `matches`, with a carry into the stretch. Returns the one
  // out of it.
  __device__ uint32_t step(Bits matches, uint32_t carry) {
    const Bits hits = v & matches;
    const Bits sum = v + hits + carry;
    v = sum | (v ^ hits);
    return 1 ^ static_cast<uint32_t>(sum >> kTop<Bits>);
  }
};

}  // namespace

int64_t rouge_carry_words(const RougeShape& shape) {
  return shape.reference_time <= kTop<Wide> ? 0 : (shape.time + kLanes - 1) / kLanes;
}

cudaError_t launch_rouge_l(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores,
                           bool prefixes, uint32_t* carries, cudaStream_t stream) {
  if (shape.reference_time <= kTop<Narrow>) {
    return launch(shape, inputs, scores, prefixes, Lcs<Narrow>{}, carries, stream);
  }
  return launch(shape, inputs, scores, prefixes, Lcs<Wide>{}, carries, stream);
}

}  // namespace rlseq2seq
