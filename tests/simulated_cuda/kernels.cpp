// Operators that touch memory itself: allocation, copies between host and device, reading a number.
#include <ATen/EmptyTensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/set_native.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "bridge.h"
#include "counters.h"
#include "memory.h"

namespace simulated_cuda {
namespace {

using at::Tensor;

const c10::DispatchKeySet kCuda(c10::DispatchKey::CUDA);

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> kind, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &device_allocator(), kCuda,
                                   c10::dtype_or_default(kind), format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> kind,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                           &device_allocator(), kCuda, c10::dtype_or_default(kind));
}

// The driver copies page-locked memory while the host goes on; for other memory the host waits, whether
// the program asked it to or not.
void count_copy(const Tensor& to, const Tensor& from, bool non_blocking) {
  const auto bytes = static_cast<int64_t>(to.numel() * from.element_size());
  if (to.is_cuda() && from.is_cuda()) {
    count_operator("copy_");
    return;
  }
  // A change of number format or of strides is a kernel of its own beside the transfer.
  if (to.scalar_type() != from.scalar_type() || to.strides() != from.strides()) count_operator("copy_");
  const bool in = to.is_cuda();
  in ? count_copy_in(bytes) : count_copy_out(bytes);
  const bool pinned = is_pinned((in ? from : to).const_data_ptr());
  if (!non_blocking || !pinned) {
    count_wait(std::string("copy_ to ") + (in ? "device" : "host") + (non_blocking ? ", not pinned" : ""));
  }
}

Tensor& copy_(Tensor& self, const Tensor& from, bool non_blocking) {
  {
    Bridge bridge;
    at::AutoDispatchBelowADInplaceOrView below;
    bridge.to_host(self).copy_(bridge.to_host(from));
  }
  if (self.numel() > 0) count_copy(self, from, non_blocking);
  return self;
}

at::Scalar item(const Tensor& self) {
  Bridge bridge;
  at::AutoDispatchBelowADInplaceOrView below;
  count_copy_out(static_cast<int64_t>(self.element_size()));
  count_wait("item");
  return at::_local_scalar_dense(bridge.to_host(self));
}

const Tensor& resize_(const Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  Bridge bridge;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    bridge.to_host(self).resize_(C10_AS_INTARRAYREF_SLOW(size), format);
  }
  bridge.finish();
  return self;
}

Tensor& set_(Tensor& self) {
  const auto nothing = at::detail::empty_generic({0}, &device_allocator(), kCuda, self.scalar_type(), std::nullopt);
  return at::native::set_storage_cpu_(self, nothing.storage(), 0, {0}, {});
}

}  // namespace

void register_own_kernels(torch::Library& library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("copy_", &copy_);
  library.impl("_local_scalar_dense", &item);
  library.impl("resize_", &resize_);
  library.impl("set_", &set_);
  library.impl("set_.source_Tensor", &at::native::set_tensor_);
  library.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
}

}  // namespace simulated_cuda
