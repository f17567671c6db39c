// pointer_loss on CUDA: a block of threads turns a row of logits, which a product left in scratch, into log p(y) and,
// in place, into d log p(y) / d logits.
//
// A logit of B bytes (4, or 2 for bfloat16), with gradients:
//   bytes         3 B here (two reads and a write); around it the three products and the sum for the bias write and
//                 read 4 B. The bias (V B) stays in the second-level cache.
//   instructions  some 12 for the running sum of exponentials, 8 for the gradient, one special function each
// 50,000 tokens and 1,280 rows in float32: 0.77 GB, 0.3 ms at 2.6 TB/s, beside 98 GFLOP of products, which take 2 ms
// without TF32; in bfloat16 0.38 GB, 0.15 ms, beside 0.2 ms of products. Copies add 12 S
// bytes a row in float32, 24 S with gradients.
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

template <class Scalar>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(Scalar);
  Scalar values[kSize];
};

// The sum of exponentials of some logits, divided by the largest of them, and the attention on the target's copies.
template <class Real>
struct Sums {
  Real largest = -kInfinity<Real>;
  Real total = 0;
  Real mass = 0;

  // What is to be subtracted from logits: 0 where all are -inf.
  __device__ Real shift() const { return largest == -kInfinity<Real> ? Real(0) : largest; }

  // Takes nan for no maximum; it gets into the total.
  __device__ void raise(Real logit) {
    if (logit > largest) {
      total *= exponential(largest - logit);
      largest = logit;
    }
  }

  __device__ void add(const Sums& other) {
    mass += other.mass;
    raise(other.largest);
    total += other.total * exponential(other.largest - shift());
  }
};

template <class Real>
__device__ Sums<Real> shuffled(const Sums<Real>& sums, int distance) {
  Sums<Real> result;
  result.largest = __shfl_xor_sync(kAllLanes, sums.largest, distance);
  result.total = __shfl_xor_sync(kAllLanes, sums.total, distance);
  result.mass = __shfl_xor_sync(kAllLanes, sums.mass, distance);
  return result;
}

template <class Real>
__device__ void add_over_warp(Sums<Real>& sums) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) sums.add(shuffled(sums, distance));
}

// The sums over the block, for every thread. All threads must call it, once.
template <class Real>
__device__ Sums<Real> add_over_block(Sums<Real> sums) {
  __shared__ Real parts[3][kMostThreads / kLanes];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
  add_over_warp(sums);
  if (lane == 0) {
    parts[0][warp] = sums.largest;
    parts[1][warp] = sums.total;
    parts[2][warp] = sums.mass;
  }
  __syncthreads();
  Sums<Real> whole;
  if (lane < warps) {
    whole.largest = parts[0][lane];
    whole.total = parts[1][lane];
    whole.mass = parts[2][lane];
  }
  add_over_warp(whole);
  return whole;
}

// The sums of what this thread reads of a row.
template <class Scalar, class Real>
__device__ Sums<Real> sums_of_thread(const Scalar* logits, const Scalar* bias, int64_t vocabulary) {
  using Packed = Pack<Scalar>;
  Sums<Real> sums;
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
    for (int i = 0; i < Packed::kSize; ++i) sums.total += exponential(x[i] - shift);
  }
  const int64_t rest = packs * Packed::kSize + threadIdx.x;
  if (rest < vocabulary) {
    const Real x = real(logits[rest]) + real(bias[rest]);
    sums.raise(x);
    sums.total += exponential(x - sums.shift());
  }
  return sums;
}

// d log p(y) / d logit, from the logit: through * ([v = generated] - softmax_v).
template <class Scalar, class Real>
__device__ void to_gradients(Scalar* logits, const Scalar* bias, int64_t vocabulary, const Sums<Real>& sums,
                             Real through, int64_t generated) {
  using Packed = Pack<Scalar>;
  // Not exp(logit - log(total)): logits far from 0 would lose what their differences have.
  const Real scale = through / sums.total;
  const auto gradient = [&](Scalar z, Scalar b, int64_t v) {
    return (v == generated ? through : Real(0)) - scale * exponential(real(z) + real(b) - sums.largest);
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

// The target's logit is read before the barrier in add_over_block and overwritten after it; else every thread touches
// what it alone touches.
template <class Scalar, class Real>
__global__ void __launch_bounds__(kMostThreads)
    pointer_rows_kernel(PointerShape shape, PointerInputs<Scalar> in, PointerOutputs<Scalar, Real> out, Scalar* logits,
                        int64_t stride, int64_t first) {
  const int64_t n = first + blockIdx.x;
  Scalar* const row = logits + blockIdx.x * stride;
  const int64_t target = in.targets[n];
  const bool known = target >= 0 && target < shape.vocabulary;
  const int64_t generated = known ? target : kUnknown;
  const bool copies = in.gate_logits != nullptr;
  const Scalar* const attention = in.attention + n * shape.time;
  const int64_t* const source_ids = in.source_ids + n / shape.shared * shape.time;

  const Real logit = real(row[generated]) + real(in.bias[generated]);
  Sums<Real> sums = sums_of_thread<Scalar, Real>(row, in.bias, shape.vocabulary);
  for (int64_t i = threadIdx.x; copies && i < shape.time; i += blockDim.x) {
    if (source_ids[i] == target) sums.mass += real(attention[i]);
  }
  sums = add_over_block(sums);

  const Real log_softmax = logit - sums.largest - std::log(sums.total);
  const Real gate_logit = copies ? real(in.gate_logits[n]) : Real(0);
  const PointerRow<Real> mixed =
      copies ? pointer_row(log_softmax, known, gate_logit, sums.mass) : PointerRow<Real>{log_softmax, 1, 0};
  if (threadIdx.x == 0) out.log_probs[n] = mixed.log_prob;
  if (out.grad == nullptr) return;

  const Real grad = out.grad[n];
  to_gradients(row, in.bias, shape.vocabulary, sums, grad * mixed.generated, generated);
  if (out.grad_gate_logits != nullptr && threadIdx.x == 0) {
    put(out.grad_gate_logits[n], grad * gate_slope(mixed, gate_logit));
  }
  if (out.grad_attention == nullptr) return;
  const Real slope = grad * attention_slope(mixed, sums.mass);
  for (int64_t i = threadIdx.x; i < shape.time; i += blockDim.x) {
    put(out.grad_attention[n * shape.time + i], source_ids[i] == target ? slope : Real(0));
  }
}

}  // namespace

template <class Scalar, class Real>
cudaError_t launch_pointer_rows(const PointerShape& shape, const PointerInputs<Scalar>& inputs,
                                const PointerOutputs<Scalar, Real>& outputs, Scalar* logits, int64_t stride,
                                int64_t first, int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  // Eight packs a thread or more, where there are so many.
  const int64_t packs = shape.vocabulary / Pack<Scalar>::kSize;
  const int threads = packs >= 8 * kMostThreads ? kMostThreads : packs >= 2048 ? 256 : 128;
  pointer_rows_kernel<<<static_cast<unsigned>(count), threads, 0, stream>>>(shape, inputs, outputs, logits, stride,
                                                                            first);
  return cudaGetLastError();
}

template cudaError_t launch_pointer_rows(const PointerShape&, const PointerInputs<float>&,
                                         const PointerOutputs<float, float>&, float*, int64_t, int64_t, int64_t,
                                         cudaStream_t);
template cudaError_t launch_pointer_rows(const PointerShape&, const PointerInputs<double>&,
                                         const PointerOutputs<double, double>&, double*, int64_t, int64_t, int64_t,
                                         cudaStream_t);
template cudaError_t launch_pointer_rows(const PointerShape&, const PointerInputs<__nv_bfloat16>&,
                                         const PointerOutputs<__nv_bfloat16, float>&, __nv_bfloat16*, int64_t, int64_t,
                                         int64_t, cudaStream_t);

}  // namespace rlseq2seq
