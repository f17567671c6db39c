// What the CUDA kernels of rouge_l and rouge_n share: a warp a hypothesis, bit-parallel.
//
// Each lane keeps the reference tokens at its positions modulo 32 in registers, two or four of them. The bit mask M of
// the positions that hold a hypothesis's token is then a ballot for each 32 of them, "is mine the same?", with no table
// to build, no collisions and no memory. Ballots give the mask to all lanes, and all take the same step. Longer
// references are taken in stretches; what a stretch hands on to the next, a bit a token, is kept in scratch.
#pragma once

#include "rouge.h"

namespace rlseq2seq {
namespace {

using Narrow = uint64_t;
using Wide = unsigned __int128;

constexpr int kLanes = 32;
constexpr int kWarps = 4;
constexpr uint32_t kAllLanes = 0xffffffffu;

template <class Bits>
constexpr int kTop = 8 * sizeof(Bits) - 1;  // also the number of tokens of a stretch

__device__ inline int32_t clamped(int64_t length, int64_t limit) {
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

// Takes `now` through `count` tokens, one a lane. Bit i of `in` is what the stretch before hands on at token i, bit i
// of the result what this one does. Where bit i of `grows` is set, token i takes the place of the one before it, so it
// goes on from `before`, from which that one went on.
template <bool kGrows, class Bits, class State>
__device__ uint32_t step(const Stretch<Bits>& stretch, int64_t token, int32_t count, uint32_t in, uint32_t grows,
                         State& now, State& before) {
  uint32_t out = 0;
#pragma unroll 4
  for (int32_t i = 0; i < count; ++i) {
    const Bits hits = stretch.matches(__shfl_sync(kAllLanes, token, i));
    if (kGrows) {
      if (grows >> i & 1) {
        now = before;
      } else {
        before = now;
      }
    }
    out |= now.step(hits, in >> i & 1) << i;
  }
  return out;
}

// What the columns so far hold, for each lane's prefix: those whose place the next one has not taken, up to its own.
template <bool kGrows>
struct Columns {
  int32_t common = 0;
  int32_t words = 0;
  uint32_t last = 0;  // what the last column added to `common`, of which it is taken if the next one takes its place

  __device__ void begin(uint32_t grows) {
    if (kGrows) common -= last & grows & 1;
  }

  __device__ int32_t common_until(int lane, uint32_t out, uint32_t grows) const {
    const uint32_t until = kAllLanes >> (kLanes - 1 - lane);
    return common + __popc(out & (kGrows ? ((until >> 1) & ~(grows >> 1)) | 1u << lane : until));
  }

  __device__ int32_t words_until(int lane, int32_t count, uint32_t grows) const {
    const int32_t columns = lane < count ? lane + 1 : count;
    return words + columns - (kGrows ? __popc(grows & (kAllLanes >> (kLanes - 1 - lane))) : 0);
  }

  __device__ void end(int32_t count, uint32_t out, uint32_t grows) {
    words += count - (kGrows ? __popc(grows) : 0);
    common += __popc(kGrows ? out & ~(grows >> 1) : out);
    if (kGrows && count > 0) last = out >> (count - 1) & 1;
  }
};

// The scores that are asked for: of so many columns each, which do not become fewer.
struct Ends {
  const int64_t* ends;
  int64_t row;
  int64_t done = 0;  // of the ends
  int64_t count;
  int32_t length;
  int lane;

  __device__ Ends(const RougeShape& shape, const RougeInputs& inputs, int64_t h, int32_t columns, int own)
      : ends(inputs.ends + h * shape.ends), row(h * shape.ends), count(shape.ends), length(columns), lane(own) {}

  // Those that fall on the columns from `begin` to `end`, a lane each, of which every lane tells its own.
  __device__ void score(const RougeScores& scores, int32_t common, int32_t units, int32_t reference_units,
                        int32_t begin, int32_t end) {
    int ready = kLanes;
    while (ready == kLanes) {
      const int32_t at = done + lane < count ? clamped(ends[done + lane], length) : end + 1;
      const uint32_t later = __ballot_sync(kAllLanes, at > end);
      ready = later == 0 ? kLanes : __ffs(static_cast<int>(later)) - 1;
      const int32_t its_common = __shfl_sync(kAllLanes, common, (at - 1 - begin) & (kLanes - 1));
      const int32_t its_units = __shfl_sync(kAllLanes, units, (at - 1 - begin) & (kLanes - 1));
      const bool any = at > begin;  // else there is nothing before it
      if (lane < ready) scores.set(row + done + lane, any ? its_common : 0, any ? its_units : 0, reference_units);
      done += ready;
    }
  }

  __device__ void score_rest(const RougeScores& scores, int32_t common, int32_t units, int32_t reference_units) const {
    for (int64_t e = done + lane; e < count; e += kLanes) scores.set(row + e, common, units, reference_units);
  }
};

// Every branch but the bounds of a lane's own load and store is taken by whole warps, so the shuffles and ballots
// always have all lanes. Only lane 0 touches `carries`, so no lane ever reads what another wrote.
template <class Bits, template <class> class Measure, bool kGrows>
__global__ void __launch_bounds__(kWarps* kLanes)
    rouge_kernel(RougeShape shape, RougeInputs inputs, RougeScores scores, bool prefixes, Measure<Bits> initial,
                 uint32_t* carries, int64_t carry_words) {
  const int lane = threadIdx.x % kLanes;
  const int64_t h = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (h >= shape.hypotheses) return;
  const int64_t row = h * shape.time, r = h / shape.shared;
  const int64_t* reference = inputs.references + r * shape.reference_time;
  const int32_t time = static_cast<int32_t>(shape.time);
  const int32_t length = clamped(inputs.hypothesis_lengths[h], shape.time);
  const int32_t reference_length = clamped(inputs.reference_lengths[r], shape.reference_time);
  const int32_t reference_units = initial.units(reference_length);
  uint32_t* const mine = carries + h * carry_words;

  int32_t start = 0;
  bool last;
  do {  // once for an empty reference too: its scores are to be written
    const Stretch<Bits> stretch(reference + start, reference_length - start, lane);
    last = reference_length - start <= kTop<Bits>;
    Measure<Bits> now = initial, before = initial;
    Columns<kGrows> columns;
    Ends ends(shape, inputs, h, length, lane);
    for (int32_t t = 0; t < (last && prefixes && !kGrows ? time : length); t += kLanes) {
      const int32_t count = t + kLanes <= length ? kLanes : t < length ? length - t : 0;
      const int64_t token = lane < count ? inputs.hypotheses[row + t + lane] : 0;
      uint32_t in = 0, grows = 0;
      if (start > 0 && count > 0) in = __shfl_sync(kAllLanes, lane == 0 ? mine[t / kLanes] : 0, 0);
      if (kGrows) {
        grows = __ballot_sync(kAllLanes, lane < count && t + lane > 0 && inputs.continues[row + t + lane]);
      }
      const uint32_t out = step<kGrows>(stretch, token, count, in, grows, now, before);
      if (!last && lane == 0) mine[t / kLanes] = out;
      columns.begin(grows);
      const int32_t common = columns.common_until(lane, out, grows);
      const int32_t units = initial.units(columns.words_until(lane, count, grows));
      if (kGrows && last) {
        ends.score(scores, common, units, reference_units, t, t + count);
      } else if (last && prefixes && t + lane < time) {
        scores.set(row + t + lane, common, units, reference_units);
      }
      columns.end(count, out, grows);
    }
    if (kGrows && last) ends.score_rest(scores, columns.common, initial.units(columns.words), reference_units);
    if (last && !prefixes && lane == 0) scores.set(h, columns.common, initial.units(length), reference_units);
    start += kTop<Bits> - initial.overlap();
  } while (!last);
}

template <template <class> class Measure, class Bits>
cudaError_t launch(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores, bool prefixes,
                   const Measure<Bits>& initial, uint32_t* carries, cudaStream_t stream) {
  if (shape.hypotheses == 0) return cudaSuccess;
  const auto kernel =
      inputs.grow ? rouge_kernel<Bits, Measure, true> : rouge_kernel<Bits, Measure, false>;
  const auto blocks = static_cast<unsigned>((shape.hypotheses + kWarps - 1) / kWarps);
  kernel<<<blocks, kWarps * kLanes, 0, stream>>>(shape, inputs, scores, prefixes, initial, carries,
                                                 rouge_carry_words(shape));
  return cudaGetLastError();
}

}  // namespace
}  // namespace rlseq2seq
