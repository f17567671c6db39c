// pointer_loss on CUDA: a block of threads turns a row of logits, which a product left in scratch, into log p(y) and,
// in place, into d log p(y) / d logits.
//
// A logit of B bytes (4, or 2 for bfloat16), with gradients:
//   bytes         3 B here (two reads and a write); around it the three products and the sum for the bias write and
//                 read 4 B. The bias (V B) stays in the second-level cache.
//   instructions  some 13 for the running sums (exponentials, logits), 8 for the gradient, one special function each
// 50,000 tokens and 1,280 rows in float32: 0.77 GB, 0.3 ms at 2.6 TB/s, beside 98 GFLOP of products, which take 2 ms
// without TF32; in bfloat16 0.38 GB, 0.15 ms, beside 0.2 ms of products. Copies add 12 S
// bytes a row in float32, 24 S with gradients.
//
// With entropy, the same bytes and some 5 instructions a logit more, and for the tokens of the source S^2 comparisons a
// row, as in the search steps: S / 512 times 5 S instructions a thread, for 400 tokens 1,600 beside the 3,000 of 50,000
// logits. A position is looked after by one thread, which adds its token's terms where that is the first of its kind.
#include "../pointer_entropy.h"
#include "pointer_loss.h"

namespace rlseq2seq {
namespace {

constexpr int kLanes = 32;
constexpr int kMostThreads = 512;
constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ float real(float x) { return x; }
__device__ double real(double x) { return x; }
__device__ float real(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ void put(float& to, float x) { to = x; }
__device__ void put(double& to, double x) { to = x; }
__device__ void put(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }

// To a few units in the last place near 1; what is less than 1e-5 may be off by 1e-5 of itself.
__device__ float exponential(float x) { return __expf(x); }
__device__ double exponential(double x) { return exp(x); }

// A logit of -inf has no e^x, and no x that may be multiplied: e^-1000 is 0 in either type.
template <class Real>
__device__ Real above_nothing(Real x) {
  return Real(-1000) > x ? Real(-1000) : x;
}

template <class Scalar>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(Scalar);
  Scalar values[kSize];
};

// The sum of exponentials of some logits, divided by the largest of them, the attention on the target's copies, and the
// sum of the logits: one addition, not worth a kernel of its own for where no smoothing asks for it.
// With entropy also the sum of e^x x, x being logit - largest.
template <class Real, bool entropy>
struct Sums {
  Real largest = -kInfinity<Real>;
  Real total = 0;
  Real mass = 0;
  Real logits = 0;
  Real weighted = 0;

  // What is to be subtracted from logits: 0 where all are -inf.
  __device__ Real shift() const { return largest == -kInfinity<Real> ? Real(0) : largest; }

  // Takes nan for no maximum; it gets into the total.
  __device__ void raise(Real logit) {
    if (logit > largest) {
      const Real factor = exponential(largest - logit);
      if (entropy) weighted = factor * (weighted + above_nothing(largest - logit) * total);
      total *= factor;
      largest = logit;
    }
  }

  __device__ void take(Real logit, Real shift) {
    const Real term = exponential(logit - shift);
    total += term;
    logits += logit;
    if (entropy) weighted += term * above_nothing(logit - shift);
  }

  __device__ void add(const Sums& other) {
    mass += other.mass;
    logits += other.logits;
    raise(other.largest);
    const Real x = other.largest - shift(), factor = exponential(x);
    total += other.total * factor;
    if (entropy) weighted += factor * (other.weighted + above_nothing(x) * other.total);
  }
};

template <class Real, bool entropy>
__device__ Sums<Real, entropy> shuffled(const Sums<Real, entropy>& sums, int distance) {
  Sums<Real, entropy> result;
  result.largest = __shfl_xor_sync(kAllLanes, sums.largest, distance);
  result.total = __shfl_xor_sync(kAllLanes, sums.total, distance);
  result.mass = __shfl_xor_sync(kAllLanes, sums.mass, distance);
  result.logits = __shfl_xor_sync(kAllLanes, sums.logits, distance);
  if (entropy) result.weighted = __shfl_xor_sync(kAllLanes, sums.weighted, distance);
  return result;
}

template <class Real, bool entropy>
__device__ void add_over_warp(Sums<Real, entropy>& sums) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) sums.add(shuffled(sums, distance));
}

// The sums over the block, for every thread. All threads must call it, once.
template <class Real, bool entropy>
__device__ Sums<Real, entropy> add_over_block(Sums<Real, entropy> sums) {
  __shared__ Real parts[entropy ? 5 : 4][kMostThreads / kLanes];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
  add_over_warp(sums);
  if (lane == 0) {
    parts[0][warp] = sums.largest;
    parts[1][warp] = sums.total;
    parts[2][warp] = sums.mass;
    parts[3][warp] = sums.logits;
    if (entropy) parts[4][warp] = sums.weighted;
  }
  __syncthreads();
  Sums<Real, entropy> whole;
  if (lane < warps) {
    whole.largest = parts[0][lane];
    whole.total = parts[1][lane];
    whole.mass = parts[2][lane];
    whole.logits = parts[3][lane];
    if (entropy) whole.weighted = parts[4][lane];
  }
  add_over_warp(whole);
  return whole;
}

// The sums of what this thread reads of a row.
template <bool entropy, class Real, class Scalar>
__device__ Sums<Real, entropy> sums_of_thread(const Scalar* logits, const Scalar* bias, int64_t vocabulary) {
  using Packed = Pack<Scalar>;
  Sums<Real, entropy> sums;
  const int64_t packs = vocabulary / Packed::kSize;
  for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
    const Packed z = reinterpret_cast<const Packed*>(logits)[p];
    const Packed b = reinterpret_cast<const Packed*>(bias)[p];
    Real x[Packed::kSize];
    Real top = -kInfinity<Real>;
#pragma unroll
    for (int i = 0; i < Packed::kSize; ++i) {
      x[i] = real(z.values[i]) + real(b.values[i]);
      top = x[i] > top ? x[i] : top;
    }
    sums.raise(top);
    const Real shift = sums.shift();
#pragma unroll
    for (int i = 0; i < Packed::kSize; ++i) sums.take(x[i], shift);
  }
  const int64_t rest = packs * Packed::kSize + threadIdx.x;
  if (rest < vocabulary) {
    const Real x = real(logits[rest]) + real(bias[rest]);
    sums.raise(x);
    sums.take(x, sums.shift());
  }
  return sums;
}

// What the gradient of a row's logits is made of: d / dz_v = e^(x_v) (level - slope x_v) + everywhere, and at the
// target `through` more.
template <class Real>
struct LogitGradient {
  Real level, slope, everywhere, through;
  int64_t generated;
};

// The logits' gradient in their place.
template <bool entropy, class Scalar, class Real>
__device__ void to_gradients(Scalar* logits, const Scalar* bias, int64_t vocabulary, Real largest,
                             const LogitGradient<Real>& of) {
  using Packed = Pack<Scalar>;
  // Not exp(logit - log(total)): logits far from 0 would lose what their differences have.
  const auto gradient = [&](Scalar z, Scalar b, int64_t v) {
    const Real x = real(z) + real(b) - largest;
    const Real level = entropy ? of.level - of.slope * above_nothing(x) : of.level;
    return (v == of.generated ? of.through + of.everywhere : of.everywhere) + level * exponential(x);
  };
  const int64_t packs = vocabulary / Packed::kSize;
  for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
    Packed z = reinterpret_cast<const Packed*>(logits)[p];
    const Packed b = reinterpret_cast<const Packed*>(bias)[p];
#pragma unroll
    for (int i = 0; i < Packed::kSize; ++i) {
      put(z.values[i], gradient(z.values[i], b.values[i], p * Packed::kSize + i));
    }
    reinterpret_cast<Packed*>(logits)[p] = z;
  }
  const int64_t rest = packs * Packed::kSize + threadIdx.x;
  if (rest < vocabulary) put(logits[rest], gradient(logits[rest], bias[rest], rest));
}

// A row of the kernel: what all its threads know.
template <class Scalar, class Real>
struct Row {
  Scalar* logits;
  const Scalar* attention;
  const int64_t* source_ids;
  int64_t n, target, generated;
  bool known, copies;
  Real gate_logit;

  __device__ Row(const PointerShape& shape, const PointerInputs<Scalar>& in, Scalar* row, int64_t number)
      : logits(row), attention(in.attention + number * shape.time),
        source_ids(in.source_ids + number / shape.shared * shape.time), n(number), target(in.targets[number]),
        known(target >= 0 && target < shape.vocabulary), copies(in.gate_logits != nullptr) {
    generated = known ? target : kUnknown;
    gate_logit = copies ? real(in.gate_logits[number]) : kInfinity<Real>;
  }
};

template <class Real>
__device__ void add_over_warp(CopiedEntropy<Real>& sums) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    sums.add({__shfl_xor_sync(kAllLanes, sums.entropy, distance), __shfl_xor_sync(kAllLanes, sums.raised, distance),
              __shfl_xor_sync(kAllLanes, sums.slope, distance)});
  }
}

// The sums over the block, for every thread. All threads must call it, once.
template <class Real>
__device__ CopiedEntropy<Real> add_over_block(CopiedEntropy<Real> sums) {
  __shared__ Real parts[3][kMostThreads / kLanes];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
  add_over_warp(sums);
  if (lane == 0) {
    parts[0][warp] = sums.entropy;
    parts[1][warp] = sums.raised;
    parts[2][warp] = sums.slope;
  }
  __syncthreads();
  CopiedEntropy<Real> whole;
  if (lane < warps) whole = {parts[0][lane], parts[1][lane], parts[2][lane]};
  add_over_warp(whole);
  return whole;
}

// The sums over the source's tokens, for every thread. For its positions a thread leaves in `scratch` [2, S], if there
// is one, s r where the token is the first of its kind, and dH / d attention.
template <class Scalar, class Real>
__device__ CopiedEntropy<Real> copied_entropy(const PointerShape& shape, const Row<Scalar, Real>& row,
                                              const Scalar* bias, Real largest, Real log_total, Real* scratch) {
  CopiedEntropy<Real> sums;
  for (int64_t i = threadIdx.x; i < shape.time; i += blockDim.x) {
    const int64_t id = row.source_ids[i];
    Real mass = 0;
    bool first = true;
    for (int64_t j = 0; j < shape.time; ++j) {
      if (row.source_ids[j] != id) continue;
      mass += real(row.attention[j]);
      first = first && j >= i;
    }
    const bool known = id >= 0 && id < shape.vocabulary;
    const Real log_softmax = known ? real(row.logits[id]) + real(bias[id]) - largest - log_total : Real(0);
    const SourceTokenEntropy<Real> token = source_token_entropy(log_softmax, known, row.gate_logit, mass);
    if (first) sums.add(token.terms);
    if (scratch == nullptr) continue;
    scratch[i] = first ? token.terms.raised : Real(0);
    scratch[shape.time + i] = entropy_attention_slope(token.log_prob, row.gate_logit, mass);
  }
  return add_over_block(sums);
}

// Gradients of what the row copies from, and what the copies take from those of the logits. With entropy, all threads
// must call it.
template <bool entropy, class Scalar, class Real>
__device__ void copy_gradients(const PointerShape& shape, const Row<Scalar, Real>& row,
                               const PointerOutputs<Scalar, Real>& out, const PointerRow<Real>& mixed, Real mass,
                               const MixtureEntropy<Real>& spread, const Real* scratch) {
  const Real grad = out.grad[row.n], entropy_grad = entropy ? out.entropy_grad[row.n] : Real(0);
  if (out.grad_gate_logits != nullptr && threadIdx.x == 0) {
    const Real slope = grad * gate_slope(mixed, row.gate_logit);
    put(out.grad_gate_logits[row.n], entropy ? slope + entropy_grad * spread.gate_slope : slope);
  }
  if (out.grad_attention != nullptr) {
    const Real slope = grad * attention_slope(mixed, mass);
    for (int64_t i = threadIdx.x; i < shape.time; i += blockDim.x) {
      const Real of_target = row.source_ids[i] == row.target ? slope : Real(0);
      put(out.grad_attention[row.n * shape.time + i],
          entropy ? of_target + entropy_grad * scratch[shape.time + i] : of_target);
    }
  }
  if (!entropy) return;
  __syncthreads();  // the gradients of the logits are written, each by some thread
  for (int64_t i = threadIdx.x; i < shape.time; i += blockDim.x) {
    if (scratch[i] == 0) continue;
    Scalar& gradient = row.logits[row.source_ids[i]];
    put(gradient, real(gradient) - entropy_grad * spread.through * scratch[i]);
  }
}

// Logits are read by any thread before the last barrier of add_over_block, and after it only by the thread that
// overwrites them, until copy_gradients has another barrier. `scratch` [block's rows, 2, S] is there for gradients with
// entropy.
template <bool entropy, class Scalar, class Real>
__global__ void __launch_bounds__(kMostThreads)
    pointer_rows_kernel(PointerShape shape, PointerInputs<Scalar> in, PointerOutputs<Scalar, Real> out, Scalar* logits,
                        int64_t stride, int64_t first, Real* scratch) {
  const int64_t n = first + blockIdx.x;
  const Row<Scalar, Real> row(shape, in, logits + blockIdx.x * stride, n);
  if (scratch != nullptr) scratch += blockIdx.x * 2 * shape.time;

  const Real logit = real(row.logits[row.generated]) + real(in.bias[row.generated]);
  Sums<Real, entropy> sums = sums_of_thread<entropy, Real>(row.logits, in.bias, shape.vocabulary);
  for (int64_t i = threadIdx.x; row.copies && i < shape.time; i += blockDim.x) {
    if (row.source_ids[i] == row.target) sums.mass += real(row.attention[i]);
  }
  sums = add_over_block(sums);

  const Real log_total = std::log(sums.total), log_softmax = logit - sums.largest - log_total;
  const PointerRow<Real> mixed = row.copies ? pointer_row(log_softmax, row.known, row.gate_logit, sums.mass)
                                            : PointerRow<Real>{log_softmax, 1, 0};
  if (threadIdx.x == 0) {
    out.log_probs[n] = mixed.log_prob;
    if (out.mean_log_softmax != nullptr) {
      out.mean_log_softmax[n] = sums.logits / static_cast<Real>(shape.vocabulary) - sums.largest - log_total;
    }
  }
  MixtureEntropy<Real> spread{};
  if (entropy) {
    CopiedEntropy<Real> copied;
    if (row.copies) copied = copied_entropy(shape, row, in.bias, sums.largest, log_total, scratch);
    spread = mixture_entropy(sums.weighted / sums.total - log_total, log_total, row.gate_logit, copied);
    if (threadIdx.x == 0) out.entropy[n] = spread.entropy;
  }
  if (out.grad == nullptr) return;

  const Real through = out.grad[n] * mixed.generated;
  const Real factor = entropy ? out.entropy_grad[n] * spread.through : Real(0);
  const SmoothingSlopes<Real> smoothing = smoothing_slopes(out, n, shape.vocabulary);
  const Real taken = through + smoothing.taken;
  const Real level = entropy ? factor * spread.level - taken : -taken;
  const LogitGradient<Real> of{level / sums.total, factor / sums.total, smoothing.everywhere, through, row.generated};
  to_gradients<entropy>(row.logits, in.bias, shape.vocabulary, sums.largest, of);
  if (row.copies) copy_gradients<entropy>(shape, row, out, mixed, sums.mass, spread, scratch);
}

}  // namespace

template <class Scalar, class Real>
cudaError_t launch_pointer_rows(const PointerShape& shape, const PointerInputs<Scalar>& inputs,
                                const PointerOutputs<Scalar, Real>& outputs, Scalar* logits, int64_t stride,
                                int64_t first, int64_t count, Real* scratch, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  // Eight packs a thread or more, where there are so many.
  const int64_t packs = shape.vocabulary / Pack<Scalar>::kSize;
  const int threads = packs >= 8 * kMostThreads ? kMostThreads : packs >= 2048 ? 256 : 128;
  const auto blocks = static_cast<unsigned>(count);
  if (outputs.entropy == nullptr) {
    pointer_rows_kernel<false><<<blocks, threads, 0, stream>>>(shape, inputs, outputs, logits, stride, first, scratch);
  } else {
    pointer_rows_kernel<true><<<blocks, threads, 0, stream>>>(shape, inputs, outputs, logits, stride, first, scratch);
  }
  return cudaGetLastError();
}

#define RLSEQ2SEQ_LAUNCH_POINTER_ROWS(Scalar, Real)                                                                 \
  template cudaError_t launch_pointer_rows(const PointerShape&, const PointerInputs<Scalar>&,                       \
                                           const PointerOutputs<Scalar, Real>&, Scalar*, int64_t, int64_t, int64_t, \
                                           Real*, cudaStream_t);

RLSEQ2SEQ_LAUNCH_POINTER_ROWS(float, float)
RLSEQ2SEQ_LAUNCH_POINTER_ROWS(double, double)
RLSEQ2SEQ_LAUNCH_POINTER_ROWS(__nv_bfloat16, float)

}  // namespace rlseq2seq
