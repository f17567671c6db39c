// Hands the tensors of copy_attention to its CUDA launchers. A .cpp file, so that the kernels know nothing of torch.
#include "../copy_attention_tensors.h"
#include "copy_attention.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

// Calls run(T, W) of the kernels' types.
template <class Run>
void with_types(at::ScalarType type, const Run& run) {
  if (type == at::kBFloat16) {
    run(__nv_bfloat16{}, 0.0f);
  } else if (type == at::kFloat) {
    run(0.0f, 0.0f);
  } else {
    run(0.0, 0.0);
  }
}

// What fits into a grid and shared memory; checked, though nobody will come near it.
void check_grid(const char* op, const AttentionShape& shape) {
  constexpr int64_t rows = int64_t{1} << 31, positions = 1 << 19, shared = 1 << 17, size = 1 << 20;
  TORCH_CHECK_VALUE(shape.rows < rows && shape.sources < rows && shape.positions < positions &&
                        shape.shared < shared && shape.score_size < size,
                    op, ": keys must have fewer than 2^19 positions and 2^20 numbers each, and fewer than 2^17 rows a "
                        "source.");
}

bool aligned(const void* address, int64_t row_bytes, int64_t source_bytes) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0 && row_bytes % 16 == 0 && source_bytes % 16 == 0;
}

template <class T, class W>
bool takes_vectors(const AttentionShape& s, const AttentionInputs<T, W>& in) {
  const int64_t size = sizeof(T), scores = size * s.score_size, values = size * s.value_size;
  return aligned(in.keys, scores, size * s.keys_stride) && aligned(in.values, values, size * s.values_stride) &&
         aligned(in.query, scores, 0) && aligned(in.score_weight, scores, 0) && aligned(in.coverage_weight, scores, 0);
}

template <class W>
at::Tensor scratch_of(const at::Tensor& query, int64_t count) {
  return at::empty({count}, query.options().dtype(sizeof(W) == 8 ? at::kDouble : at::kFloat));
}

AttentionResult copy_attention_cuda(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                                    const at::Tensor& mask, const OptionalTensor& score_weight,
                                    const OptionalTensor& coverage, const OptionalTensor& coverage_weight,
                                    const OptionalTensor& past) {
  const AttentionArguments a{query, keys, values, mask, score_weight, coverage, coverage_weight, past};
  const AttentionShape checked = check_attention("copy_attention", a);
  check_grid("copy_attention", checked);
  const c10::cuda::CUDAGuard guard(query.device());
  AttentionResult result = empty_attention(checked, a);
  with_types(query.scalar_type(), [&](auto t, auto w) {
    using T = decltype(t);
    using W = decltype(w);
    const AttentionReader<T, W> reader(a);
    const AttentionShape shape = reader.strided(checked);
    const AttentionInputs<T, W> in = reader.addresses();
    const AttentionPlan plan = plan_attention(shape, takes_vectors(shape, in));
    const at::Tensor scratch = scratch_of<W>(query, attention_scratch(shape, plan));
    C10_CUDA_CHECK(launch_copy_attention(shape, plan, in, attention_addresses<T, W>(result),
                                         scratch.mutable_data_ptr<W>(), c10::cuda::getCurrentCUDAStream()));
  });
  return result;
}

AttentionGradientTensors copy_attention_backward_cuda(
    const at::Tensor& grad_context, const at::Tensor& grad_attention, const at::Tensor& grad_past,
    const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& mask,
    const OptionalTensor& score_weight, const OptionalTensor& coverage, const OptionalTensor& coverage_weight,
    const OptionalTensor& past, const at::Tensor& context, const at::Tensor& attention, const at::Tensor& new_past,
    bool wants_rows, bool wants_keys, bool wants_values) {
  const AttentionArguments a{query, keys, values, mask, score_weight, coverage, coverage_weight, past};
  const char* op = "copy_attention_backward";
  const AttentionShape checked = check_attention(op, a);
  check_grid(op, checked);
  const c10::cuda::CUDAGuard guard(query.device());
  const AttentionSavedReader saved(op, checked, a,
                                   {grad_context, grad_attention, grad_past, context, attention, new_past});
  const AttentionNeeds needs{wants_rows, wants_keys, wants_values};
  AttentionGradientTensors gradients = empty_gradients(checked, a, needs);
  with_types(query.scalar_type(), [&](auto t, auto w) {
    using T = decltype(t);
    using W = decltype(w);
    const AttentionReader<T, W> reader(a);
    const AttentionShape shape = reader.strided(checked);
    const AttentionInputs<T, W> in = reader.addresses();
    const AttentionSaved<T, W> given = saved.addresses<T, W>();
    const bool vectors = takes_vectors(shape, in) && aligned(given.grad_context, 0, 0);
    const AttentionPlan plan = plan_attention_backward(shape, vectors, sizeof(T), wants_rows);
    const at::Tensor scratch = scratch_of<W>(query, attention_backward_scratch(shape, plan, wants_rows));
    C10_CUDA_CHECK(launch_copy_attention_backward(shape, plan, in, given,
                                                  gradient_addresses<T, W>(gradients, a, needs),
                                                  scratch.mutable_data_ptr<W>(), c10::cuda::getCurrentCUDAStream()));
  });
  return gradients;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("copy_attention", &copy_attention_cuda);
  m.impl("copy_attention_backward", &copy_attention_backward_cuda);
}

}  // namespace rlseq2seq
