// ROUGE-L on CUDA: a warp a hypothesis, bit-parallel. The recurrence and the trick with the top bit are told in
// csrc/cpu/lcs.h; what differs is how the matches of a token are found.
//
// Each lane keeps the reference tokens at its positions modulo 32 in registers, two or four of them. The bit mask M of
// a hypothesis's token is then a ballot for each 32 positions, "is mine the same?", with no table to build, no
// collisions and no memory. Ballots give the mask to all lanes, and all do the same additions. Longer references are
// taken in stretches; the carries between two of them, a bit a token, are kept in scratch.
//
// Counted, for a hypothesis of T tokens and a reference of 64 to 127 (from the machine code for sm_90):
//   bytes         8 T + 8 U read, 16 written (16 T for prefixes), each once and coalesced
//   instructions  35 a token: 2 shuffles, 8 comparisons, 4 ballots, 12 for V & M, the sum and V', 9 for carry and loop;
//                 the scores of prefixes, 32 columns at once, add 3 a token
//   registers     56 a thread, no shared memory: 36 warps an SM
// A batch of 320 x 100 tokens is 0.5 MB and 320 warps, fewer than the 528 schedulers of an H100, so it takes as long as
// one warp: 100 tokens at some 40 cycles, 2 us, no more than a launch. From thousands of hypotheses on the bound is
// instructions: 3,500 a pair, 270 million pairs a second at 1.8 GHz, with 0.4 TB/s of memory traffic an eighth of what
// there is.
#include "rouge_l.h"

namespace rlseq2seq {
namespace {

using Narrow = uint64_t;
using Wide = unsigned __int128;

constexpr int kLanes = 32;
constexpr int kWarps = 4;
constexpr uint32_t kAllLanes = 0xffffffffu;

template <class Bits>
constexpr int kTop = 8 * sizeof(Bits) - 1;  // also the number of tokens of a stretch

__device__ int32_t clamped(int64_t length, int64_t limit) {
  return static_cast<int32_t>(length < 0 ? 0 : length > limit ? limit : length);
}

// Lane l holds the tokens l, 32 + l, ... of a stretch of a reference.
template <class Bits>
struct Stretch {
  static constexpr int kGroups = sizeof(Bits) / 4;
  int64_t tokens[kGroups];
  Bits inside;  // the bits that belong to a token, never the top one

  __device__ Stretch(const int64_t* reference, int32_t length, int lane) {
    const int32_t count = length < kTop<Bits> ? length : kTop<Bits>;
    inside = (Bits{1} << count) - 1;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int32_t at = g * kLanes + lane;
      tokens[g] = at < count ? reference[at] : 0;
    }
  }

  __device__ Bits matches(int64_t token) const {
    Bits bits = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      bits |= static_cast<Bits>(__ballot_sync(kAllLanes, tokens[g] == token)) << (g * kLanes);
    }
    return bits & inside;
  }
};

// Steps the bit vector v through `count` tokens, one a lane. Bit i of `in` is the carry into the stretch at token i,
// bit i of the result the carry out of it.
template <class Bits>
__device__ uint32_t step(const Stretch<Bits>& stretch, int64_t token, int32_t count, uint32_t in, Bits& v) {
  uint32_t out = 0;
#pragma unroll 4
  for (int32_t i = 0; i < count; ++i) {
    const Bits hits = v & stretch.matches(__shfl_sync(kAllLanes, token, i));
    const Bits sum = v + hits + (in >> i & 1);
    out |= (1 ^ static_cast<uint32_t>(sum >> kTop<Bits>)) << i;
    v = sum | (v ^ hits);
  }
  return out;
}

// Every branch but the bounds of a lane's own load and store is taken by whole warps, so the shuffles and ballots
// always have all lanes. Only lane 0 touches `carries`, so no lane ever reads what another wrote.
template <class Bits>
__global__ void __launch_bounds__(kWarps* kLanes)
    rouge_l_kernel(RougeLShape shape, RougeLInputs inputs, RougeLScores scores, bool prefixes, uint32_t* carries,
                   int64_t carry_words) {
  const int lane = threadIdx.x % kLanes;
  const int64_t h = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (h >= shape.hypotheses) return;
  const int64_t r = h / shape.shared;
  const int64_t* hypothesis = inputs.hypotheses + h * shape.time;
  const int64_t* reference = inputs.references + r * shape.reference_time;
  const int32_t time = static_cast<int32_t>(shape.time);
  const int32_t length = clamped(inputs.hypothesis_lengths[h], shape.time);
  const int32_t reference_length = clamped(inputs.reference_lengths[r], shape.reference_time);
  uint32_t* const mine = carries + h * carry_words;

  int32_t start = 0;
  bool last;
  do {  // once for an empty reference too: its scores are to be written
    const Stretch<Bits> stretch(reference + start, reference_length - start, lane);
    last = reference_length - start <= kTop<Bits>;
    Bits v = ~Bits{0};
    int32_t common = 0;
    const int32_t columns = last && prefixes ? time : length;
    for (int32_t t = 0; t < columns; t += kLanes) {
      const int64_t token = t + lane < length ? hypothesis[t + lane] : 0;
      uint32_t in = 0;
      if (start > 0 && t < length) in = __shfl_sync(kAllLanes, lane == 0 ? mine[t / kLanes] : 0, 0);
      const int32_t left = length - t;
      const uint32_t out = step(stretch, token, left < kLanes ? left : kLanes, in, v);
      if (!last && lane == 0) mine[t / kLanes] = out;
      if (last && prefixes && t + lane < time) {
        const int32_t until_here = common + __popc(out & (kAllLanes >> (kLanes - 1 - lane)));
        const int32_t read = t + lane + 1 < length ? t + lane + 1 : length;
        scores.set(h * shape.time + t + lane, until_here, read, reference_length);
      }
      common += __popc(out);
    }
    if (last && !prefixes && lane == 0) scores.set(h, common, length, reference_length);
    start += kTop<Bits>;
  } while (!last);
}

}  // namespace

int64_t rouge_l_carry_words(const RougeLShape& shape) {
  return shape.reference_time <= kTop<Wide> ? 0 : (shape.time + kLanes - 1) / kLanes;
}

cudaError_t launch_rouge_l(const RougeLShape& shape, const RougeLInputs& inputs, const RougeLScores& scores,
                           bool prefixes, uint32_t* carries, cudaStream_t stream) {
  if (shape.hypotheses == 0) return cudaSuccess;
  const auto kernel = shape.reference_time <= kTop<Narrow> ? rouge_l_kernel<Narrow> : rouge_l_kernel<Wide>;
  const auto blocks = static_cast<unsigned>((shape.hypotheses + kWarps - 1) / kWarps);
  kernel<<<blocks, kWarps * kLanes, 0, stream>>>(shape, inputs, scores, prefixes, carries, rouge_l_carry_words(shape));
  return cudaGetLastError();
}

}  // namespace rlseq2seq
