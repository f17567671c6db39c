// copy_attention on CUDA, backward: one launch for what a row's softmax takes from its gradients, one for almost all of
// the work, and one for each sum over positions. No atomics, so results repeat to the last bit.
//
// With da_i = (gradient of attention i) + (gradient of context) . values_i, the gradient of the normalised energy is
// a_i (da_i - mean), where mean = sum of a da = grad_context . context + sum of a grad_attention is known before any
// value is read. So a block goes once through its run of a source's positions, for all rows that share the source: a
// warp a position for da and the gradient of the values, then a thread V columns of A for tanh, anew, and the gradients
// of keys, which are written once, and of queries and weights, which stay in registers.
//
// Counted, for B sources of S positions, A = C = D, one row each:
//   bytes         2 B S D numbers read and 2 B S D written. B 64, S 400, D 512: 210 MB in float32, 63 us at 3.35 TB/s;
//                 half of both in bfloat16
//   tanh          B S A, as forward: 7 us of special functions
//   instructions  about 25 a number of the keys, 8 of the values: 15 us
//   parts         14 a source at 7 blocks an SM, 2 A numbers each: 4 MB written and read, in the second-level cache
// With more than four rows a source, a block comes back to its positions for each four, reading keys and values and
// adding to their gradients, which in bfloat16 rounds them as often. A loop of T = 100 steps, whose rows come together
// (rlseq2seq/ops/over_steps.py), so moves 6 B S D numbers 25 times: 7.9 GB in float32, 2.4 ms from memory, beside
// 0.7 ms of special functions. It asks for no gradients of rows, so there are no parts of queries (B S D T / chunk
// numbers), and the plan makes chunks of 8 positions instead of 50: the 528 blocks that run come back to 34 MB, which
// the second-level cache holds, and memory moves 0.3 GB.
#include "copy_attention_columns.h"

#include <algorithm>

namespace rlseq2seq {

using namespace attention;

namespace {

constexpr int kReduceColumns = 32;

template <class W>
Scratch<W> parts_in(W* scratch, const AttentionShape& s, const AttentionPlan& plan, bool wants_rows) {
  W* query = scratch + s.rows;
  W* score = wants_rows ? query + s.rows * plan.splits * s.score_size : query;
  return {scratch, wants_rows ? query : nullptr, score, score + s.sources * plan.splits * s.score_size};
}

// A block a row.
template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    mean_gradients(AttentionShape s, const bool* mask, AttentionSaved<T, W> saved, W* means) {
  __shared__ W of_warps[kWarps];
  const int64_t n = blockIdx.x;
  const T* grads = saved.grad_context + n * s.value_size;
  const T* contexts = saved.context + n * s.value_size;
  W mean = 0;
  for (int64_t c = threadIdx.x; c < s.value_size; c += kThreads) mean += number(grads[c]) * number(contexts[c]);
  for (int64_t i = threadIdx.x; i < s.positions; i += kThreads) {
    if (mask[n / s.shared * s.positions + i]) {
      mean += saved.attention[n * s.positions + i] * saved.grad_attention[n * s.positions + i];
    }
  }
  mean = warp_sum(mean);
  if (threadIdx.x % kLanes == 0) of_warps[threadIdx.x / kLanes] = mean;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) mean += of_warps[w];
  means[n] = mean;
}

// Gradient of a row's energy at a token from that of the normalised energy. Writes that of the past, if asked for.
template <class T, class W>
__device__ W temporal_gradient(const AttentionInputs<T, W>& in, const AttentionSaved<T, W>& saved, W* past_grad, W grad,
                               int64_t at) {
  const W past = in.past[at], from_new = saved.grad_past[at];
  if (past == minus_infinity<W>()) {
    if (past_grad != nullptr) past_grad[at] = 0;
    return grad + from_new;
  }
  const W kept = past - saved.new_past[at];  // the log of what share of the new sum the past has
  if (past_grad != nullptr) past_grad[at] = from_new * exp_of(kept) - grad;
  return grad - from_new * expm1_of(kept);
}

// A warp's gradients of the attention of all rows of the group at a token, the same in every lane, and of the values.
template <class T, class W, int V, int R>
__device__ void attention_gradients(W (&sum)[R], const AttentionShape& s, const AttentionInputs<T, W>& in,
                                    const AttentionSaved<T, W>& saved, T* value_grads, const Work& work, int64_t i,
                                    int lane) {
  using Numbers = Pack<T, V>;
  const T* value = in.values + work.source * s.values_stride + i * s.value_size;
  const T* grads = saved.grad_context + work.row * s.value_size;
  T* to = value_grads == nullptr ? nullptr : value_grads + (work.source * s.positions + i) * s.value_size;
  W attention[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    sum[r] = 0;
    attention[r] = r < work.rows ? saved.attention[(work.row + r) * s.positions + i] : W{0};
  }
#pragma unroll 2
  for (int64_t c = static_cast<int64_t>(lane) * V; c < s.value_size; c += kLanes * V) {
    const Numbers x = Numbers::read(value + c);
    W total[V] = {};
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= work.rows) break;
      const Numbers g = Numbers::read(grads + r * s.value_size + c);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        sum[r] += number(g.x[j]) * number(x.x[j]);
        total[j] += attention[r] * number(g.x[j]);
      }
    }
    if (to == nullptr) continue;
    Numbers before{}, after;
    if (work.add) before = Numbers::load(to + c);
#pragma unroll
    for (int j = 0; j < V; ++j) after.x[j] = rounded<T>(number(before.x[j]) + total[j]);
    after.store(to + c);
  }
#pragma unroll
  for (int r = 0; r < R; ++r) sum[r] = warp_sum(sum[r]);
}

// A warp's zeros at a position of padding.
template <class T, int V>
__device__ void no_gradient(T* to, int64_t n, int lane) {
  for (int64_t i = static_cast<int64_t>(lane) * V; to != nullptr && i < n; i += kLanes * V) Pack<T, V>{}.store(to + i);
}

// Gradients of the energies of the block's positions, into `energy`, [R, chunk] in shared memory; of values and past.
template <class T, class W, int V, int R>
__device__ void energy_gradients(W* energy, const AttentionShape& s, const AttentionPlan& plan,
                                 const AttentionInputs<T, W>& in, const AttentionSaved<T, W>& saved,
                                 const AttentionGradients<T, W>& out, const W* means, const Work& work) {
  const int lane = threadIdx.x % kLanes;
  for (int p = threadIdx.x / kLanes; p < work.positions; p += kWarps) {
    const int64_t i = work.first + p, place = work.source * s.positions + i;
    W sum[R] = {};
    const bool token = in.mask[place];
    if (token) {
      attention_gradients<T, W, V, R>(sum, s, in, saved, out.values, work, i, lane);
    } else if (!work.add) {
      no_gradient<T, V>(out.values == nullptr ? nullptr : out.values + place * s.value_size, s.value_size, lane);
      no_gradient<T, V>(out.keys == nullptr ? nullptr : out.keys + place * s.score_size, s.score_size, lane);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (lane != r || r >= work.rows) continue;
      const int64_t n = work.row + r, at = n * s.positions + i;
      W grad = 0;
      if (token) {
        grad = saved.attention[at] * (saved.grad_attention[at] + sum[r] - means[n]);
        if (in.past != nullptr) grad = temporal_gradient(in, saved, out.past, grad, at);
      } else if (out.past != nullptr) {
        out.past[at] = saved.grad_past[at];
      }
      energy[r * plan.chunk + p] = grad;
    }
  }
}

// Gradients of keys, queries and weights, a thread V columns; of coverage, for each warp its part, into `covered`,
// [warps, R, chunk] in shared memory, which was zero.
template <class T, class W, int V, int R, bool kAdditive>
__device__ void key_gradients(const W* energy, W* covered, const AttentionShape& s, const AttentionPlan& plan,
                              const AttentionInputs<T, W>& in, const AttentionGradients<T, W>& out,
                              const Scratch<W>& scratch, const Work& work) {
  using Numbers = Pack<T, V>;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t place = work.source * s.positions + work.first;
  const T* keys = in.keys + work.source * s.keys_stride + work.first * s.score_size;
  // Whole warps stay to the end, since they add up the gradient of coverage together.
  for (int64_t base = 0; base < s.score_size; base += kThreads * V) {
    const int64_t a = base + threadIdx.x * V;
    const bool inside = a < s.score_size;
    Columns<T, W, V, R> columns;
    if (inside) columns.start(s, in, work, a);
    Numbers next{};
    if (inside && in.mask[place]) next = Numbers::read(keys + a);
    for (int p = 0; p < work.positions; ++p) {
      const Numbers now = next;
      if (inside && p + 1 < work.positions && in.mask[place + p + 1]) {
        next = Numbers::read(keys + (p + 1) * s.score_size + a);
      }
      if (!in.mask[place + p]) continue;
      T* to = out.keys == nullptr || !inside ? nullptr : out.keys + (place + p) * s.score_size + a;
      Numbers before{}, after;
      if (work.add && to != nullptr) before = Numbers::load(to);
      W key[V], key_sum[V];
#pragma unroll
      for (int j = 0; j < V; ++j) {
        key[j] = number(now.x[j]);
        key_sum[j] = number(before.x[j]);
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (r >= work.rows) break;
        const W coverage = in.coverage == nullptr ? W{0} : in.coverage[(work.row + r) * s.positions + work.first + p];
        W mine = 0;
        if (inside) mine = columns.template step<kAdditive>(key, r, energy[r * plan.chunk + p], coverage, key_sum);
        if (out.coverage == nullptr) continue;
        mine = warp_sum(mine);
        if (lane == 0) covered[(warp * R + r) * plan.chunk + p] += mine;
      }
      if (to == nullptr) continue;
#pragma unroll
      for (int j = 0; j < V; ++j) after.x[j] = rounded<T>(key_sum[j]);
      after.store(to);
    }
    if (inside) columns.finish(s, plan, in, scratch, work, a);
  }
}

// Grid (B, splits). Shared memory: gradients of energies [R, chunk], of coverage [warps, R, chunk].
template <class T, class W, int V, int R, bool kAdditive>
__global__ void __launch_bounds__(kThreads, sizeof(W) == 8 || R == 1 ? 1 : 4)
    gradients_of_part(AttentionShape s, AttentionPlan plan, AttentionInputs<T, W> in, AttentionSaved<T, W> saved,
                      AttentionGradients<T, W> out, Scratch<W> scratch) {
  constexpr int kColumns = V < 4 ? V : 4;  // eight would not fit into registers
  extern __shared__ __align__(16) unsigned char memory[];
  W* energy = reinterpret_cast<W*>(memory);
  W* covered = energy + R * plan.chunk;
  Work work{};
  work.source = blockIdx.x;
  work.split = blockIdx.y;
  work.first = static_cast<int64_t>(work.split) * plan.chunk;
  work.positions = static_cast<int>(s.positions - work.first < plan.chunk ? s.positions - work.first : plan.chunk);
  for (int64_t group = 0; group == 0 || group < s.shared; group += R) {
    work.row = work.source * s.shared + group;
    work.rows = static_cast<int>(s.shared - group < R ? s.shared - group : R);
    work.add = group > 0;
    energy_gradients<T, W, V, R>(energy, s, plan, in, saved, out, scratch.means, work);
    for (int at = threadIdx.x; out.coverage != nullptr && at < kWarps * R * plan.chunk; at += kThreads) covered[at] = 0;
    __syncthreads();
    key_gradients<T, W, kColumns, R, kAdditive>(energy, covered, s, plan, in, out, scratch, work);
    __syncthreads();
    for (int at = threadIdx.x; out.coverage != nullptr && at < work.rows * work.positions; at += kThreads) {
      const int r = at / work.positions, p = at % work.positions;
      W sum = 0;
      for (int warp = 0; warp < kWarps; ++warp) sum += covered[(warp * R + r) * plan.chunk + p];
      out.coverage[(work.row + r) * s.positions + work.first + p] = sum;
    }
    __syncthreads();  // the next group writes where this one reads
  }
}

// to[m, a] = sum over k of parts[m, k, a], in an order that depends on the sizes alone. Grid (M, blocks of columns),
// block (columns, lanes that share the sum).
template <class T, class W>
__global__ void sum_parts(const W* parts, T* to, int64_t count, int64_t columns) {
  __shared__ W sums[kReduceColumns][kReduceColumns + 1];
  const int64_t m = blockIdx.x, a = static_cast<int64_t>(blockIdx.y) * kReduceColumns + threadIdx.x;
  W sum = 0;
  if (a < columns) {
#pragma unroll 8
    for (int64_t k = threadIdx.y; k < count; k += blockDim.y) sum += parts[(m * count + k) * columns + a];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || a >= columns) return;
  for (int k = 1; k < static_cast<int>(blockDim.y); ++k) sum += sums[k][threadIdx.x];
  to[m * columns + a] = rounded<T>(sum);
}

template <class T, class W>
struct Differentiate {
  const AttentionShape& shape;
  const AttentionPlan& plan;
  const AttentionInputs<T, W>& in;
  const AttentionSaved<T, W>& saved;
  const AttentionGradients<T, W>& out;
  const Scratch<W>& scratch;
  cudaStream_t stream;

  template <int V, int R, bool kAdditive>
  cudaError_t run() const {
    const dim3 grid(static_cast<unsigned>(shape.sources), plan.splits);
    const size_t memory = sizeof(W) * R * plan.chunk * (out.coverage == nullptr ? 1 : 1 + kWarps);
    gradients_of_part<T, W, V, R, kAdditive>
        <<<grid, kThreads, memory, stream>>>(shape, plan, in, saved, out, scratch);
    return cudaGetLastError();
  }
};

template <class T, class W>
cudaError_t launch_sum(const W* parts, T* to, int64_t sums, int64_t count, int64_t columns, cudaStream_t stream) {
  if (to == nullptr || sums == 0 || columns == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(sums), blocks_of(columns, kReduceColumns));
  const dim3 threads(kReduceColumns, count > 64 ? kReduceColumns : 8);
  sum_parts<T, W><<<grid, threads, 0, stream>>>(parts, to, count, columns);
  return cudaGetLastError();
}

}  // namespace

int64_t attention_backward_scratch(const AttentionShape& shape, const AttentionPlan& plan, bool wants_rows) {
  return shape.rows + ((wants_rows ? shape.rows : 0) + 2 * shape.sources) * plan.splits * shape.score_size;
}

template <class T, class W>
cudaError_t launch_copy_attention_backward(const AttentionShape& shape, const AttentionPlan& plan,
                                           const AttentionInputs<T, W>& in, const AttentionSaved<T, W>& saved,
                                           const AttentionGradients<T, W>& out, W* scratch, cudaStream_t stream) {
  const Scratch<W> parts = parts_in(scratch, shape, plan, out.query != nullptr);
  cudaError_t error = cudaSuccess;
  if (shape.rows > 0) {
    const auto rows = static_cast<unsigned>(shape.rows);
    mean_gradients<T, W><<<rows, kThreads, 0, stream>>>(shape, in.mask, saved, parts.means);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess && shape.sources > 0 && plan.splits > 0) {
    const Differentiate<T, W> differentiate{shape, plan, in, saved, out, parts, stream};
    error = with_variant<T>(shape, plan.vectors, in.score_weight != nullptr, differentiate);
  }
  const int64_t a = shape.score_size, all = shape.sources * plan.splits;
  if (error == cudaSuccess) error = launch_sum(parts.query, out.query, shape.rows, int64_t{plan.splits}, a, stream);
  if (error == cudaSuccess) error = launch_sum(parts.score, out.score_weight, int64_t{1}, all, a, stream);
  if (error == cudaSuccess) error = launch_sum(parts.covered, out.coverage_weight, int64_t{1}, all, a, stream);
  return error;
}

#define RLSEQ2SEQ_INSTANCE(T, W)                                                                                    \
  template cudaError_t launch_copy_attention_backward<T, W>(                                                        \
      const AttentionShape&, const AttentionPlan&, const AttentionInputs<T, W>&, const AttentionSaved<T, W>&,       \
      const AttentionGradients<T, W>&, W*, cudaStream_t);
RLSEQ2SEQ_INSTANCE(float, float)
RLSEQ2SEQ_INSTANCE(__nv_bfloat16, float)
RLSEQ2SEQ_INSTANCE(double, double)
#undef RLSEQ2SEQ_INSTANCE

}  // namespace rlseq2seq
