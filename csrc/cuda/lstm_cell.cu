// The LSTM cell on CUDA: a thread takes 16 bytes of neighbouring units of a row, all of their four gates.
//
// Counted, for N rows of D units of 4 bytes: forward reads 5 D and writes 2 D, backward reads 8 D and writes 5 D words a
// row, each once and coalesced; 64 x 512 units are 0.9 MB and 1.7 MB, under 1 us of an H100's memory, so the launch is
// what it costs. Arithmetic is in float (in double for double): some 5 exponentials and divisions a unit.
#include "lstm_cell.h"

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

namespace rlseq2seq {
namespace {

constexpr int kThreads = 128;

template <class T>
struct Arithmetic {
  using type = float;
};
template <>
struct Arithmetic<double> {
  using type = double;
};

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T at[kWidth];
};

__device__ float number(float x) { return x; }
__device__ double number(double x) { return x; }
__device__ float number(__nv_bfloat16 x) { return __bfloat162float(x); }

// torch compiles with the conversions of bfloat16 switched off, so they are called by name.
template <class T, class A>
__device__ T rounded(A x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

__device__ float exponential(float x) { return expf(x); }
__device__ double exponential(double x) { return exp(x); }
__device__ float tangent(float x) { return tanhf(x); }
__device__ double tangent(double x) { return tanh(x); }

template <class A>
__device__ A sigmoid(A x) {
  return A{1} / (A{1} + exponential(-x));
}

template <class T, int kWidth>
__device__ Vector<T, kWidth> read(const T* address) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(address);
}

template <class T, int kWidth>
__device__ void write(T* address, const Vector<T, kWidth>& vector) {
  *reinterpret_cast<Vector<T, kWidth>*>(address) = vector;
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(LstmShape shape, LstmForward<T> at) {
  using A = typename Arithmetic<T>::type;
  const int64_t unit = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (unit >= shape.rows * shape.size) return;
  const T* gates = at.gates + unit / shape.size * 4 * shape.size + unit % shape.size;
  Vector<T, kWidth> gate[4], hidden, cell = read<T, kWidth>(at.cell + unit);
#pragma unroll
  for (int g = 0; g < 4; ++g) gate[g] = read<T, kWidth>(gates + g * shape.size);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const A entry = sigmoid(number(gate[0].at[i])), forget = sigmoid(number(gate[1].at[i]));
    const A candidate = tangent(number(gate[2].at[i])), exit = sigmoid(number(gate[3].at[i]));
    const A kept = forget * number(cell.at[i]) + entry * candidate;
    cell.at[i] = rounded<T>(kept);
    hidden.at[i] = rounded<T>(exit * tangent(kept));
  }
  write<T, kWidth>(at.new_cell + unit, cell);
  write<T, kWidth>(at.new_hidden + unit, hidden);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(LstmShape shape, LstmBackward<T> at) {
  using A = typename Arithmetic<T>::type;
  const int64_t unit = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (unit >= shape.rows * shape.size) return;
  const int64_t place = unit / shape.size * 4 * shape.size + unit % shape.size;
  Vector<T, kWidth> gate[4];
#pragma unroll
  for (int g = 0; g < 4; ++g) gate[g] = read<T, kWidth>(at.gates + place + g * shape.size);
  const auto grad_hidden = read<T, kWidth>(at.grad_hidden + unit), grad_cell = read<T, kWidth>(at.grad_cell + unit);
  const auto new_cell = read<T, kWidth>(at.new_cell + unit);
  auto cell = read<T, kWidth>(at.cell + unit);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const A entry = sigmoid(number(gate[0].at[i])), forget = sigmoid(number(gate[1].at[i]));
    const A candidate = tangent(number(gate[2].at[i])), exit = sigmoid(number(gate[3].at[i]));
    const A shown = tangent(number(new_cell.at[i])), from_hidden = number(grad_hidden.at[i]);
    const A grad = number(grad_cell.at[i]) + from_hidden * exit * (1 - shown * shown);
    gate[0].at[i] = rounded<T>(grad * candidate * entry * (1 - entry));
    gate[1].at[i] = rounded<T>(grad * number(cell.at[i]) * forget * (1 - forget));
    gate[2].at[i] = rounded<T>(grad * entry * (1 - candidate * candidate));
    gate[3].at[i] = rounded<T>(from_hidden * shown * exit * (1 - exit));
    cell.at[i] = rounded<T>(grad * forget);
  }
#pragma unroll
  for (int g = 0; g < 4; ++g) write<T, kWidth>(at.grad_gates + place + g * shape.size, gate[g]);
  write<T, kWidth>(at.grad_old_cell + unit, cell);
}

bool aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

unsigned blocks(const LstmShape& shape, int64_t width) {
  const int64_t threads = shape.rows * shape.size / width;
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

// Vectors must not straddle rows and must be aligned; otherwise units are taken one by one.
template <class T>
cudaError_t launch_lstm_cell(const LstmShape& shape, const LstmForward<T>& at, cudaStream_t stream) {
  constexpr int kWidth = 16 / sizeof(T);
  if (shape.rows * shape.size == 0) return cudaSuccess;
  const bool wide = shape.size % kWidth == 0 && aligned(at.gates) && aligned(at.cell) && aligned(at.new_hidden) &&
                    aligned(at.new_cell);
  if (wide) {
    forward_kernel<T, kWidth><<<blocks(shape, kWidth), kThreads, 0, stream>>>(shape, at);
  } else {
    forward_kernel<T, 1><<<blocks(shape, 1), kThreads, 0, stream>>>(shape, at);
  }
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_lstm_cell_backward(const LstmShape& shape, const LstmBackward<T>& at, cudaStream_t stream) {
  constexpr int kWidth = 16 / sizeof(T);
  if (shape.rows * shape.size == 0) return cudaSuccess;
  const bool wide = shape.size % kWidth == 0 && aligned(at.gates) && aligned(at.cell) && aligned(at.new_cell) &&
                    aligned(at.grad_hidden) && aligned(at.grad_cell) && aligned(at.grad_gates) &&
                    aligned(at.grad_old_cell);
  if (wide) {
    backward_kernel<T, kWidth><<<blocks(shape, kWidth), kThreads, 0, stream>>>(shape, at);
  } else {
    backward_kernel<T, 1><<<blocks(shape, 1), kThreads, 0, stream>>>(shape, at);
  }
  return cudaGetLastError();
}

#define RLSEQ2SEQ_LSTM_CELL(T)                                                                         \
  template cudaError_t launch_lstm_cell(const LstmShape&, const LstmForward<T>&, cudaStream_t);         \
  template cudaError_t launch_lstm_cell_backward(const LstmShape&, const LstmBackward<T>&, cudaStream_t)
RLSEQ2SEQ_LSTM_CELL(float);
RLSEQ2SEQ_LSTM_CELL(double);
RLSEQ2SEQ_LSTM_CELL(__nv_bfloat16);

}  // namespace rlseq2seq
