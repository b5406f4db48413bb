// What CUDA would say to the arguments of an operator.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <string>

namespace simulated_cuda {

// Fails, in libtorch's words for it, if tensors of the host are among the arguments. A tensor of no
// dimension may be where the operator takes it as a number, and indices may be where it copies them.
void refuse_mixed_devices(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> arguments);

// Fails with the same words.
[[noreturn]] void refuse(const std::string& operator_name, const std::string& argument, c10::Device device);

// Whether the operator launches nothing: it returns a view, or changes sizes.
bool is_view(const c10::FunctionSchema& schema);

// Whether the host waits for the operator, because the size of its result depends on numbers.
bool waits(const std::string& name, at::ArrayRef<c10::IValue> arguments);

// Name and overload without the namespace: "add.Tensor".
std::string full_name(const c10::OperatorName& name);

}  // namespace simulated_cuda
