// Hands blocks of logits to the CUDA launcher of pointer_loss. A .cpp file, so that the kernel's .cu knows nothing of
// torch.
#include "../pointer_loss_blocks.h"
#include "pointer_loss.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

// Blocks that fill the device: 1,340 rows of 50,000 tokens in float32. The weight is never cut.
constexpr PointerBlocks kBlocks{1024, 256 << 20, 256 << 20, int64_t{1} << 60};

// What tensors hold under the name that the kernel has for it.
template <class Scalar, class Held>
PointerInputs<Scalar> renamed(const PointerInputs<Held>& x) {
  const auto as = [](const Held* p) { return reinterpret_cast<const Scalar*>(p); };
  return {as(x.bias), as(x.gate_logits), as(x.attention), x.source_ids, x.targets};
}

template <class Scalar, class Held, class Real>
PointerOutputs<Scalar, Real> renamed(const PointerOutputs<Held, Real>& x) {
  const auto as = [](Held* p) { return reinterpret_cast<Scalar*>(p); };
  return {x.log_probs,    x.entropy,        x.mean_log_softmax,     x.grad,
          x.entropy_grad, x.smoothing_grad, as(x.grad_gate_logits), as(x.grad_attention)};
}

template <class Scalar, class Held, class Real>
void walk(const PointerTensors& tensors, const PointerShape& shape, const PointerWeights& weights,
          const PointerNeeds& needs, PointerResult& result) {
  const auto inputs = renamed<Scalar>(addresses<Held>(tensors));
  const auto outputs = renamed<Scalar>(addresses<Held, Real>(result, weights));
  const bool scratched = outputs.entropy != nullptr && outputs.grad != nullptr;
  walk_pointer_blocks(tensors, shape, kBlocks, needs, result, [&](const at::Tensor& logits, int64_t first) {
    const int64_t count = logits.size(0);
    const at::Tensor scratch = at::empty({scratched ? count : 0, 2, shape.time}, std::get<0>(result).options());
    auto* const block = reinterpret_cast<Scalar*>(logits.mutable_data_ptr<Held>());
    C10_CUDA_CHECK((launch_pointer_rows<Scalar, Real>(shape, inputs, outputs, block, logits.stride(0), first, count,
                                                      scratched ? scratch.mutable_data_ptr<Real>() : nullptr,
                                                      c10::cuda::getCurrentCUDAStream())));
  });
}

struct Cuda {
  static void run(const PointerTensors& given, const PointerShape& shape, const PointerWeights& weights,
                  const PointerNeeds& needs, PointerResult& result) {
    const c10::cuda::CUDAGuard guard(given.features.device());
    PointerTensors tensors = given;
    // The kernel reads 16 bytes at a time; a part of another tensor may start anywhere.
    if (reinterpret_cast<uintptr_t>(tensors.bias.const_data_ptr()) % 16 != 0) tensors.bias = tensors.bias.clone();
    switch (tensors.features.scalar_type()) {
      case at::kFloat: return walk<float, float, float>(tensors, shape, weights, needs, result);
      case at::kDouble: return walk<double, double, double>(tensors, shape, weights, needs, result);
      default: return walk<__nv_bfloat16, at::BFloat16, float>(tensors, shape, weights, needs, result);
    }
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("pointer_loss", &pointer_loss<Cuda>);
  m.impl("pointer_loss_backward", &pointer_loss_backward<Cuda>);
}

}  // namespace rlseq2seq
