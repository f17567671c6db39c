// Hands the tensors of lstm_cell to its CUDA launchers. A .cpp file, so that the kernels' .cu knows nothing of torch.
#include "../lstm_cell_checks.h"
#include "lstm_cell.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>
#include <torch/library.h>

#include <tuple>
#include <type_traits>

namespace rlseq2seq {
namespace {

// The device's own bfloat16 for torch's: the same bits.
template <class T>
using OnDevice = std::conditional_t<std::is_same_v<T, at::BFloat16>, __nv_bfloat16, T>;

template <class T>
const OnDevice<T>* input(const at::Tensor& tensor) {
  return reinterpret_cast<const OnDevice<T>*>(tensor.const_data_ptr<T>());
}

template <class T>
OnDevice<T>* output(at::Tensor& tensor) {
  return reinterpret_cast<OnDevice<T>*>(tensor.mutable_data_ptr<T>());
}

std::tuple<at::Tensor, at::Tensor> lstm_cell_cuda(const at::Tensor& gates, const at::Tensor& cell) {
  const LstmShape shape = check_lstm_cell(gates, cell);
  const c10::cuda::CUDAGuard guard(cell.device());
  const auto g = gates.expect_contiguous(), c = cell.expect_contiguous();
  at::Tensor hidden = at::empty(cell.sizes(), cell.options()), new_cell = at::empty(cell.sizes(), cell.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, cell.scalar_type(), "lstm_cell", [&] {
    const LstmForward<OnDevice<scalar_t>> at{input<scalar_t>(*g), input<scalar_t>(*c), output<scalar_t>(hidden),
                                             output<scalar_t>(new_cell)};
    C10_CUDA_CHECK(launch_lstm_cell(shape, at, c10::cuda::getCurrentCUDAStream()));
  });
  return {hidden, new_cell};
}

std::tuple<at::Tensor, at::Tensor> lstm_cell_backward_cuda(const at::Tensor& grad_hidden, const at::Tensor& grad_cell,
                                                           const at::Tensor& gates, const at::Tensor& cell,
                                                           const at::Tensor& new_cell) {
  const LstmShape shape = check_lstm_cell_backward(grad_hidden, grad_cell, gates, cell, new_cell);
  const c10::cuda::CUDAGuard guard(cell.device());
  const auto gh = grad_hidden.expect_contiguous(), gc = grad_cell.expect_contiguous();
  const auto g = gates.expect_contiguous(), c = cell.expect_contiguous(), n = new_cell.expect_contiguous();
  at::Tensor grad_gates = at::empty(gates.sizes(), cell.options()), grad_old = at::empty(cell.sizes(), cell.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, cell.scalar_type(), "lstm_cell_backward", [&] {
    const LstmBackward<OnDevice<scalar_t>> at{input<scalar_t>(*gh),        input<scalar_t>(*gc),
                                              input<scalar_t>(*g),         input<scalar_t>(*c),
                                              input<scalar_t>(*n),         output<scalar_t>(grad_gates),
                                              output<scalar_t>(grad_old)};
    C10_CUDA_CHECK(launch_lstm_cell_backward(shape, at, c10::cuda::getCurrentCUDAStream()));
  });
  return {grad_gates, grad_old};
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("lstm_cell", &lstm_cell_cuda);
  m.impl("lstm_cell_backward", &lstm_cell_backward_cuda);
}

}  // namespace rlseq2seq
