// copy_attention on CUDA, forward: two launches.
//
// The first gives each block a run of a source's positions, for up to four rows that share the source: a warp a
// position computes energies (loads of 16 bytes, shuffles), the block takes its own softmax over them, and a thread a
// vector of columns sums its part of the context. The second joins the parts: with m, l and c the maximum, the sum and
// the context of a part, M = max m, L = sum of l e^(m - M), context = sum of c e^(m - M) / L.
//
// Counted, for B sources of S positions, A = C = D, one row each:
//   bytes         2 B S D numbers read once; queries, weights and parts stay in the caches. B 64, S 400, D 512: 105 MB
//                 in float32, 31 us at 3.35 TB/s; half of both in bfloat16
//   tanh          B S A: 13 M, two special-function operations each (one in bfloat16) of 16 a clock and SM: 7 us on
//                 132 SMs
//   instructions  about 12 a number of the keys, 3 of the values: 7 us
//   parts         8 blocks an SM, so 16 a source: 2 MB written and read again, in the second-level cache
// With four rows a source, bytes stay and the rest is fourfold: 30 us of special functions beside 31 us of memory.
#include "copy_attention_device.h"

#include <algorithm>

namespace rlseq2seq {

using namespace attention;

namespace {

constexpr int kMostSplits = 64;  // unless a run would be too long for shared memory
constexpr int kMostPositions = 128;

// What the first kernel hands to the second, [N, splits, ...].
template <class W>
struct Parts {
  W* context;  // [N, splits, C]
  W* highest;  // [N, splits]
  W* sum;      // [N, splits]
};

template <class W>
Parts<W> parts_in(W* scratch, const AttentionShape& s, const AttentionPlan& plan) {
  const int64_t parts = s.rows * plan.splits;
  return {scratch, scratch + parts * s.value_size, scratch + parts * (s.value_size + 1)};
}

// The rows, positions and source of a block.
struct Place {
  int64_t source, row, first;  // row and position that the block starts at
  int rows, positions;

  __device__ Place(const AttentionShape& s, const AttentionPlan& plan, int split, int group, int size) {
    source = blockIdx.x;
    row = source * s.shared + static_cast<int64_t>(group) * size;
    const int64_t left = s.shared - static_cast<int64_t>(group) * size;
    rows = static_cast<int>(left < size ? left : size);
    first = static_cast<int64_t>(split) * plan.chunk;
    positions = static_cast<int>(s.positions - first < plan.chunk ? s.positions - first : plan.chunk);
  }
};

// A warp's energies of one position for all rows of the group, the same in every lane.
template <class T, class W, int V, int R, bool kAdditive>
__device__ void energies(W (&sum)[R], const AttentionShape& s, const AttentionInputs<T, W>& in, const Place& place,
                         int64_t i, int lane) {
  using Numbers = Pack<T, V>;
  const T* key = in.keys + place.source * s.keys_stride + i * s.score_size;
  const T* query = in.query + place.row * s.score_size;
  W coverage[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    sum[r] = 0;
    coverage[r] = in.coverage != nullptr && r < place.rows ? in.coverage[(place.row + r) * s.positions + i] : W{0};
  }
#pragma unroll 2
  for (int64_t a = static_cast<int64_t>(lane) * V; a < s.score_size; a += kLanes * V) {
    const Numbers k = Numbers::read(key + a);
    Numbers v{}, w{};
    if (kAdditive) v = Numbers::read(in.score_weight + a);
    if (kAdditive && in.coverage != nullptr) w = Numbers::read(in.coverage_weight + a);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= place.rows) break;
      const Numbers q = Numbers::read(query + r * s.score_size + a);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if (kAdditive) {
          sum[r] += number(v.x[j]) * Tanh<T>::of(number(k.x[j]) + number(q.x[j]) + coverage[r] * number(w.x[j]));
        } else {
          sum[r] += number(k.x[j]) * number(q.x[j]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) sum[r] = warp_sum(sum[r]);
}

// Temporal normalisation and masking of the block's energies in shared memory, [R, chunk]; they also go to `attention`.
template <class T, class W>
__device__ void normalise_over_time(W* energies, const AttentionShape& s, const AttentionPlan& plan,
                                    const AttentionInputs<T, W>& in, const AttentionOutputs<T, W>& out,
                                    const Place& place) {
  for (int at = threadIdx.x; at < place.rows * place.positions; at += kThreads) {
    const int r = at / place.positions, p = at % place.positions;
    const int64_t i = place.first + p, to = (place.row + r) * s.positions + i;
    const bool token = in.mask[place.source * s.positions + i];
    W e = token ? energies[r * plan.chunk + p] : minus_infinity<W>();
    if (in.past != nullptr) {
      const W past = in.past[to];
      const bool first = past == minus_infinity<W>();
      const W difference = e - past, highest = e > past ? e : past;
      const W both = highest + log1p_of(exp_of(difference < 0 ? difference : -difference));
      out.past[to] = !token ? past : first ? e : both;
      if (token && !first) e = difference;
    }
    energies[r * plan.chunk + p] = e;
    out.attention[to] = e;
  }
}

// Energies in shared memory become e^(energy - highest); a warp a row.
template <class W>
__device__ void softmax_of_part(W* energies, const AttentionPlan& plan, const Place& place, const Parts<W>& parts,
                                int split) {
  const int lane = threadIdx.x % kLanes;
  for (int r = threadIdx.x / kLanes; r < place.rows; r += kWarps) {
    W* row = energies + r * plan.chunk;
    W highest = minus_infinity<W>();
    for (int p = lane; p < place.positions; p += kLanes) highest = row[p] > highest ? row[p] : highest;
    highest = warp_max(highest);
    W sum = 0;
    for (int p = lane; p < place.positions; p += kLanes) {
      const W e = row[p] == minus_infinity<W>() ? W{0} : exp_of(row[p] - highest);
      row[p] = e;
      sum += e;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      parts.highest[(place.row + r) * plan.splits + split] = highest;
      parts.sum[(place.row + r) * plan.splits + split] = sum;
    }
  }
}

// The block's part of the contexts, a thread V columns.
template <class T, class W, int V, int R>
__device__ void context_of_part(const W* weights, const AttentionShape& s, const AttentionPlan& plan,
                                const AttentionInputs<T, W>& in, const Place& place, const Parts<W>& parts, int split) {
  constexpr int kAtOnce = 4;  // loads in flight
  using Numbers = Pack<T, V>;
  const bool* mask = in.mask + place.source * s.positions + place.first;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * V; c < s.value_size; c += kThreads * V) {
    const T* values = in.values + place.source * s.values_stride + place.first * s.value_size + c;
    W sum[R][V] = {};
    for (int p = 0; p < place.positions; p += kAtOnce) {
      Numbers x[kAtOnce];
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        x[u] = Numbers{};
        if (p + u < place.positions && mask[p + u]) x[u] = Numbers::read(values + (p + u) * s.value_size);
      }
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        if (p + u >= place.positions) break;
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const W weight = r < place.rows ? weights[r * plan.chunk + p + u] : W{0};
#pragma unroll
          for (int j = 0; j < V; ++j) sum[r][j] += weight * number(x[u].x[j]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= place.rows) break;
      W* to = parts.context + ((place.row + r) * plan.splits + split) * s.value_size + c;
#pragma unroll
      for (int j = 0; j < V; ++j) to[j] = sum[r][j];
    }
  }
}

// Grid (B, splits, groups of R rows). Shared memory [R, chunk]: energies, then weights.
template <class T, class W, int V, int R, bool kAdditive>
__global__ void __launch_bounds__(kThreads, sizeof(W) == 8 || R == 1 ? 1 : V > 4 ? 4 : 8)
    attend_to_part(AttentionShape s, AttentionPlan plan, AttentionInputs<T, W> in, AttentionOutputs<T, W> out,
                   Parts<W> parts) {
  extern __shared__ __align__(16) unsigned char memory[];
  W* weights = reinterpret_cast<W*>(memory);
  const int split = blockIdx.y, lane = threadIdx.x % kLanes;
  const Place place(s, plan, split, blockIdx.z, R);
  for (int p = threadIdx.x / kLanes; p < place.positions; p += kWarps) {
    if (!in.mask[place.source * s.positions + place.first + p]) continue;
    W sum[R];
    energies<T, W, V, R, kAdditive>(sum, s, in, place, place.first + p, lane);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (lane == 0 && r < place.rows) weights[r * plan.chunk + p] = sum[r];
    }
  }
  __syncthreads();
  normalise_over_time(weights, s, plan, in, out, place);
  __syncthreads();
  softmax_of_part(weights, plan, place, parts, split);
  __syncthreads();
  context_of_part<T, W, V, R>(weights, s, plan, in, place, parts, split);
}

// Grid (N, blocks of columns). Shared memory [splits]: what each part counts.
template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    join_parts(AttentionShape s, AttentionPlan plan, const bool* mask, AttentionOutputs<T, W> out, Parts<W> parts) {
  extern __shared__ __align__(16) unsigned char memory[];
  W* scales = reinterpret_cast<W*>(memory);
  const int64_t n = blockIdx.x, stripe = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.y) * kThreads;
  const W* highests = parts.highest + n * plan.splits;
  const W* sums = parts.sum + n * plan.splits;
  // Every warp does the same, so that only the scales have to be shared.
  const int lane = threadIdx.x % kLanes;
  W highest = minus_infinity<W>();
  for (int k = lane; k < plan.splits; k += kLanes) highest = highests[k] > highest ? highests[k] : highest;
  highest = warp_max(highest);
  W sum = 0;
  for (int k = lane; k < plan.splits; k += kLanes) {
    if (sums[k] != 0) sum += sums[k] * exp_of(highests[k] - highest);
  }
  sum = warp_sum(sum);
  const W inverse = sum == 0 ? W{0} : 1 / sum;  // 0: nothing but padding
  for (int k = threadIdx.x; k < plan.splits; k += kThreads) {
    scales[k] = sums[k] == 0 ? W{0} : exp_of(highests[k] - highest) * inverse;
  }
  __syncthreads();
  mask += n / s.shared * s.positions;
  for (int64_t i = stripe; i < s.positions; i += stride) {
    W* to = out.attention + n * s.positions + i;
    *to = mask[i] ? exp_of(*to - highest) * inverse : W{0};
  }
  for (int64_t c = stripe; c < s.value_size; c += stride) {
    const W* part = parts.context + n * plan.splits * s.value_size + c;
    W context = 0;
#pragma unroll 8
    for (int k = 0; k < plan.splits; ++k) context += scales[k] * part[k * s.value_size];
    out.context[n * s.value_size + c] = rounded<T>(context);
  }
}

template <class T, class W>
struct Attend {
  const AttentionShape& shape;
  const AttentionPlan& plan;
  const AttentionInputs<T, W>& in;
  const AttentionOutputs<T, W>& out;
  const Parts<W>& parts;
  cudaStream_t stream;

  template <int V, int R, bool kAdditive>
  cudaError_t run() const {
    const dim3 grid(static_cast<unsigned>(shape.sources), plan.splits, blocks_of(shape.shared, R));
    const size_t memory = sizeof(W) * R * plan.chunk;
    attend_to_part<T, W, V, R, kAdditive><<<grid, kThreads, memory, stream>>>(shape, plan, in, out, parts);
    return cudaGetLastError();
  }
};

// What the current device says of itself; a guess costs time only, and the launch will tell what is wrong.
int64_t attribute(cudaDeviceAttr name, int guess) {
  int device = 0, value = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&value, name, device) == cudaSuccess;
  return known ? value : guess;
}

// For about so many blocks, where each source has `groups` blocks a split.
AttentionPlan plan_of(const AttentionShape& shape, int64_t groups, int64_t blocks, bool vectors) {
  // At least two positions a warp, lest the parts outweigh what they are made of.
  const int64_t useful = std::min<int64_t>(kMostSplits, shape.positions / (2 * kWarps));
  const int64_t a_split = std::max<int64_t>(shape.sources * groups, 1);
  const int64_t wanted = std::max<int64_t>(std::min<int64_t>(blocks / a_split, useful), 1);
  const int64_t chunk = std::clamp<int64_t>((shape.positions + wanted - 1) / wanted, 1, kMostPositions);
  return {static_cast<int>((shape.positions + chunk - 1) / chunk), static_cast<int>(chunk), vectors};
}

}  // namespace

AttentionPlan plan_attention(const AttentionShape& shape, bool vectors) {
  // As many blocks as there are registers for, so that all run at once.
  const int64_t groups = (shape.shared + kRowGroup - 1) / kRowGroup;
  return plan_of(shape, groups, 8 * attribute(cudaDevAttrMultiProcessorCount, 132), vectors);
}

AttentionPlan plan_attention_backward(const AttentionShape& shape, bool vectors, int64_t bytes, bool wants_rows) {
  const int64_t running = (shape.shared > 1 ? 4 : 7) * attribute(cudaDevAttrMultiProcessorCount, 132);
  // A block comes back to its positions for each group of rows. Where no parts of queries grow with the number of
  // blocks, there are so many that two thirds of the second-level cache hold what those that run come back to.
  int64_t blocks = running;
  if (!wants_rows && shape.shared > kRowGroup) {
    const int64_t cached = attribute(cudaDevAttrL2CacheSize, 50 << 20) / 3 * 2;
    const int64_t position = 2 * bytes * (shape.score_size + shape.value_size);
    const int64_t chunk = std::max<int64_t>(cached / std::max<int64_t>(running * position, 1), 1);
    blocks = std::max(blocks, shape.sources * ((shape.positions + chunk - 1) / chunk));
  }
  return plan_of(shape, 1, blocks, vectors);
}

int64_t attention_scratch(const AttentionShape& shape, const AttentionPlan& plan) {
  return shape.rows * plan.splits * (shape.value_size + 2);
}

template <class T, class W>
cudaError_t launch_copy_attention(const AttentionShape& shape, const AttentionPlan& plan,
                                  const AttentionInputs<T, W>& in, const AttentionOutputs<T, W>& out, W* scratch,
                                  cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  const Parts<W> parts = parts_in(scratch, shape, plan);
  if (plan.splits > 0) {
    const Attend<T, W> attend{shape, plan, in, out, parts, stream};
    const cudaError_t error = with_variant<T>(shape, plan.vectors, in.score_weight != nullptr, attend);
    if (error != cudaSuccess) return error;
  }
  const int64_t columns = std::max<int64_t>({shape.value_size, shape.positions, 1});
  const dim3 grid(static_cast<unsigned>(shape.rows), std::min(blocks_of(columns, kThreads), 64u));
  join_parts<T, W><<<grid, kThreads, sizeof(W) * plan.splits, stream>>>(shape, plan, in.mask, out, parts);
  return cudaGetLastError();
}

#define RLSEQ2SEQ_INSTANCE(T, W)                                                                                   \
  template cudaError_t launch_copy_attention<T, W>(const AttentionShape&, const AttentionPlan&,                    \
                                                   const AttentionInputs<T, W>&, const AttentionOutputs<T, W>&, W*, \
                                                   cudaStream_t);
RLSEQ2SEQ_INSTANCE(float, float)
RLSEQ2SEQ_INSTANCE(__nv_bfloat16, float)
RLSEQ2SEQ_INSTANCE(double, double)
#undef RLSEQ2SEQ_INSTANCE

}  // namespace rlseq2seq
