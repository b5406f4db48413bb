// The device's operators: kernels of the host behind the CUDA dispatch key.
//
// Each operator is registered by itself. A fallback for the whole key would lose against the
// decompositions that libtorch has for operators without a kernel, and the counts would be theirs.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "bridge.h"
#include "checks.h"
#include "counters.h"
#include "operators.inc"

namespace simulated_cuda {
namespace {

using at::Tensor;
using c10::DispatchKey;
using c10::IValue;

template <class Change>
void change_tensors(IValue& value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    auto list = value.toTensorVector();
    for (Tensor& tensor : list) tensor = change(tensor);
    value = IValue(list);
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
    }
    value = IValue(list);
  }
}

void run_on_host(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto arguments = torch::jit::last(*stack, schema.arguments().size());
  refuse_mixed_devices(schema, arguments);
  const auto name = schema.name().substr(schema.name().find("::") + 2);
  const bool host_waits = waits(name, arguments);

  Bridge bridge;
  for (size_t i = stack->size() - arguments.size(); i < stack->size(); i++) {
    IValue& value = (*stack)[i];
    if (value.isDevice()) value = IValue(c10::Device(c10::kCPU));
    change_tensors(value, [&](const Tensor& tensor) { return bridge.to_host(tensor); });
  }
  {
    at::AutoDispatchBelowADInplaceOrView below;
    op.redispatchBoxed(c10::DispatchKeySet(DispatchKey::CPU), stack);
  }
  bridge.finish();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++) {
    change_tensors((*stack)[i], [&](const Tensor& tensor) { return bridge.to_device(tensor); });
  }
  if (!is_view(schema)) count_operator(name);
  if (host_waits) count_wait(name);
}

// Operators that have a kernel of their own here are left to it, and those that the host has none for are
// missing: a call of one is an error that names it.
void register_operators(torch::Library& library) {
  for (const std::string name : kCudaOperators) {
    const auto dot = name.find('.');
    const auto overload = dot == std::string::npos ? "" : name.substr(dot + 1);
    const auto op = c10::Dispatcher::singleton().findSchema({"aten::" + name.substr(0, dot), overload});
    if (op && !op->hasKernelForDispatchKey(DispatchKey::CUDA) &&
        op->hasComputedKernelForDispatchKey(DispatchKey::CPU)) {
      library.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
    }
  }
}

}  // namespace

void register_own_kernels(torch::Library& library);
void register_attention(torch::Library& library);

namespace {

// Kernels of their own first. The registration lasts as long as the library, which nobody unloads.
const auto* const library = [] {
  auto* library = new torch::Library(torch::Library::IMPL, "aten", DispatchKey::CUDA, __FILE__, __LINE__);
  register_own_kernels(*library);
  register_attention(*library);
  register_operators(*library);
  return library;
}();

}  // namespace
}  // namespace simulated_cuda
