// Attention as one operator, as on CUDA: the host's fused kernel gives other results (no log-sum-exp in
// this layout), so it is computed here from its formula, in f32.
#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "bridge.h"
#include "checks.h"
#include "counters.h"

namespace simulated_cuda {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void refuse_host(const char* name, std::initializer_list<std::pair<const char*, Tensor>> arguments) {
  for (const auto& [argument, tensor] : arguments) {
    if (tensor.defined() && !tensor.is_cuda()) refuse(name, argument, tensor.device());
  }
}

// query·keyᵀ·scale + bias, the logits that softmax takes.
Tensor logits(const Tensor& query, const Tensor& key, const Tensor& bias, bool causal, double scale) {
  auto result = at::matmul(query.to(at::kFloat), key.to(at::kFloat).transpose(-2, -1)) * scale;
  if (bias.defined()) result = result + bias;
  if (causal) {
    const auto seen = at::ones({result.size(-2), result.size(-1)}, at::kBool).tril();
    result = result.masked_fill(seen.logical_not(), -std::numeric_limits<float>::infinity());
  }
  return result;
}

double scale_or_default(std::optional<double> scale, const Tensor& query) {
  return scale.value_or(1.0 / std::sqrt(static_cast<double>(query.size(-1))));
}

// The kernel's memory layout: [batch, tokens, heads, channels] behind [batch, heads, tokens, channels].
Tensor laid_out(const Tensor& tensor) { return tensor.transpose(1, 2).contiguous().transpose(1, 2); }

std::tuple<Tensor, Tensor, Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                                   const OptionalTensor& bias, bool with_log_sum, double dropout,
                                                   bool causal, std::optional<double> scale) {
  constexpr auto kName = "_scaled_dot_product_efficient_attention";
  TORCH_CHECK(dropout == 0.0, kName, ": got a dropout of ", dropout, ", expected 0 on the simulated device");
  const Tensor added = bias.value_or(Tensor());
  refuse_host(kName, {{"query", query}, {"key", key}, {"value", value}, {"attn_bias", added}});
  Bridge bridge;
  at::AutoDispatchBelowADInplaceOrView below;
  const auto q = bridge.to_host(query);
  const auto scores = logits(q, bridge.to_host(key), bridge.to_host(added), causal, scale_or_default(scale, q));
  const auto out = at::matmul(at::softmax(scores, -1), bridge.to_host(value).to(at::kFloat)).to(q.scalar_type());
  const auto log_sum = with_log_sum ? at::logsumexp(scores, {-1}) : at::empty({0});
  count_operator(kName);
  const auto unused = [&] { return bridge.to_device(at::zeros({}, at::kLong)); };
  return {bridge.to_device(laid_out(out)), bridge.to_device(log_sum), unused(), unused()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& gradient, const Tensor& query, const Tensor& key,
                                                    const Tensor& value, const Tensor& bias, const Tensor& out,
                                                    const Tensor& log_sum, const Tensor&, const Tensor&, double,
                                                    std::array<bool, 4> wanted, bool causal,
                                                    std::optional<double> scale) {
  constexpr auto kName = "_scaled_dot_product_efficient_attention_backward";
  if (!gradient.defined()) return {};
  refuse_host(kName, {{"grad_out_", gradient}, {"query", query}, {"key", key}, {"value", value},
                      {"attn_bias", bias}, {"out", out}, {"logsumexp", log_sum}});
  Bridge bridge;
  at::AutoDispatchBelowADInplaceOrView below;
  const auto in_float = [&](const Tensor& tensor) { return bridge.to_host(tensor).to(at::kFloat); };
  const auto g = in_float(gradient), q = in_float(query), k = in_float(key), v = in_float(value);
  const double factor = scale_or_default(scale, q);
  const auto weights = at::softmax(logits(q, k, bridge.to_host(bias), causal, factor), -1);
  const auto of_weights = at::matmul(g, v.transpose(-2, -1));
  const auto of_logits = weights * (of_weights - (of_weights * weights).sum(-1, true));
  const auto give = [&](const Tensor& tensor) {
    return bridge.to_device(laid_out(tensor.to(query.scalar_type())));
  };
  Tensor of_bias;
  if (bias.defined() && wanted[3]) {
    of_bias = bridge.to_device(at::sum_to(of_logits, bias.sizes()).to(bias.scalar_type()));
  }
  count_operator(kName);
  return {give(at::matmul(of_logits, k) * factor), give(at::matmul(of_logits.transpose(-2, -1), q) * factor),
          give(at::matmul(weights.transpose(-2, -1), g)), of_bias};
}

}  // namespace

void register_attention(torch::Library& library) {
  library.impl("_scaled_dot_product_efficient_attention", &forward);
  library.impl("_scaled_dot_product_efficient_attention_backward", &backward);
}

// The memory-efficient kernel where CUDA could take it: rows of a multiple of 16 bytes.
int64_t choose_attention(const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor&,
                         double dropout, bool, std::optional<double>, bool) {
  const int64_t multiple = 16 / static_cast<int64_t>(query.element_size());
  const bool fits = query.dim() == 4 && query.size(-1) % multiple == 0 && value.size(-1) % multiple == 0 &&
                    query.stride(-1) == 1 && key.stride(-1) == 1 && value.stride(-1) == 1 &&
                    query.scalar_type() != at::kDouble && dropout == 0.0;
  return static_cast<int64_t>(fits ? sdp::SDPBackend::efficient_attention : sdp::SDPBackend::math);
}

}  // namespace simulated_cuda

namespace at::native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &simulated_cuda::choose_attention)
}  // namespace at::native
