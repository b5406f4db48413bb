#include "checks.h"

#include <c10/util/Exception.h>

#include <unordered_set>

#include "operators.inc"

namespace simulated_cuda {
namespace {

using Names = std::unordered_set<std::string>;

bool is_index(const std::string& name) {
  static const Names names{"index", "index_put_", "_index_put_impl_"};
  return names.count(name) > 0;
}

void check(const c10::FunctionSchema& schema, size_t at, const at::Tensor& tensor) {
  static const Names takes_numbers(std::begin(kTakesNumbers), std::end(kTakesNumbers));
  if (!tensor.defined() || tensor.is_cuda()) return;
  const auto name = full_name(schema.operator_name());
  const auto& argument = schema.arguments()[at];
  const bool written = argument.alias_info() && argument.alias_info()->isWrite();
  if (tensor.dim() == 0 && !written && takes_numbers.count(name)) return;
  if (argument.name() == "indices" && is_index(name.substr(0, name.find('.')))) return;
  refuse(name, argument.name(), tensor.device());
}

bool is_mask_or_on_host(const at::Tensor& index) {
  const auto kind = index.scalar_type();
  return kind == at::kBool || kind == at::kByte || index.is_cpu();
}

}  // namespace

std::string full_name(const c10::OperatorName& name) {
  const auto bare = name.name.substr(name.name.find("::") + 2);
  return name.overload_name.empty() ? bare : bare + "." + name.overload_name;
}

void refuse(const std::string& operator_name, const std::string& argument, c10::Device device) {
  TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and ",
              device, "! (when checking argument for argument ", argument, " in method ", operator_name, ")");
}

void refuse_mixed_devices(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> arguments) {
  for (size_t at = 0; at < arguments.size(); at++) {
    const auto& value = arguments[at];
    if (value.isTensor()) {
      check(schema, at, value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) check(schema, at, tensor);
    } else if (value.isOptionalTensorList()) {
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        if (tensor) check(schema, at, *tensor);
      }
    }
  }
}

bool is_view(const c10::FunctionSchema& schema) {
  static const Names other{"aten::unfold", "aten::set_", "aten::resize_"};
  if (other.count(schema.name())) return true;
  for (const auto& result : schema.returns()) {
    if (!result.alias_info() || result.alias_info()->isWrite()) return false;
  }
  return !schema.returns().empty();
}

bool waits(const std::string& name, at::ArrayRef<c10::IValue> arguments) {
  static const Names always{"nonzero",     "masked_select",      "_unique",                "_unique2",
                            "unique_dim",  "unique_consecutive", "unique_dim_consecutive", "equal",
                            "bincount",    "repeat_interleave"};
  if (always.count(name)) return true;
  if (!is_index(name) || arguments.size() < 2 || !arguments[1].isList()) return false;
  for (const auto& item : arguments[1].toListRef()) {
    if (item.isTensor() && item.toTensor().defined() && is_mask_or_on_host(item.toTensor())) return true;
  }
  return false;
}

}  // namespace simulated_cuda
