#include "bridge.h"

#include <c10/core/CPUAllocator.h>

#include "memory.h"

namespace simulated_cuda {
namespace {

using at::Tensor;
using c10::Storage;
using c10::StorageImpl;

Storage storage(c10::DataPtr memory, size_t bytes, c10::Allocator& allocator) {
  return Storage(c10::make_intrusive<StorageImpl>(
      StorageImpl::use_byte_size_t(), bytes, std::move(memory), &allocator, /*resizable=*/true));
}

// Memory that somebody else owns.
c10::DataPtr borrowed(void* address) { return c10::DataPtr(address, c10::Device(c10::kCPU)); }

Tensor view(const Storage& storage, c10::DispatchKey key, const Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(Storage(storage), c10::DispatchKeySet(key), like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) tensor._set_conj(true);
  if (like.is_neg()) tensor._set_neg(true);
  return tensor;
}

void follow(const Tensor& device, const Tensor& host) {
  auto* old = device.storage().unsafeGetStorageImpl();
  auto* now = host.storage().unsafeGetStorageImpl();
  if (device_address(now->mutable_data()) != old->mutable_data()) {
    const auto bytes = now->nbytes();
    auto memory = now->set_data_ptr(borrowed(nullptr));
    now->set_data_ptr_noswap(borrowed(memory.get()));
    old->set_data_ptr_noswap(to_device_memory(std::move(memory), bytes));
    old->set_nbytes(bytes);
  }
  if (device.sizes() != host.sizes() || device.strides() != host.strides()) {
    device.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
  }
}

}  // namespace

Tensor Bridge::to_host(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  for (const auto& [device, alias] : pairs_) {
    if (device.is_same(tensor)) return alias;
  }
  auto* from = tensor.storage().unsafeGetStorageImpl();
  auto found = host_of_.find(from);
  if (found == host_of_.end()) {
    auto bytes = borrowed(host_address(from->mutable_data()));
    auto host = storage(std::move(bytes), from->nbytes(), *c10::GetCPUAllocator());
    device_of_.emplace(host.unsafeGetStorageImpl(), tensor.storage());
    found = host_of_.emplace(from, std::move(host)).first;
  }
  auto alias = view(found->second, c10::DispatchKey::CPU, tensor);
  pairs_.emplace_back(tensor, alias);
  return alias;
}

Tensor Bridge::to_device(const Tensor& result) {
  if (!result.defined() || !result.is_cpu()) return result;
  for (const auto& [device, alias] : pairs_) {
    if (alias.is_same(result)) return device;
  }
  auto* from = result.storage().unsafeGetStorageImpl();
  auto found = device_of_.find(from);
  if (found == device_of_.end()) {
    // The result's storage stays the owner: other results may share it.
    auto* owner = new Storage(result.storage());
    c10::DataPtr memory(from->mutable_data(), owner, [](void* owner) { delete static_cast<Storage*>(owner); },
                        c10::Device(c10::kCPU));
    auto taken = storage(to_device_memory(std::move(memory), from->nbytes()), from->nbytes(), device_allocator());
    found = device_of_.emplace(from, std::move(taken)).first;
  }
  return view(found->second, c10::DispatchKey::CUDA, result);
}

void Bridge::finish() {
  for (const auto& [device, alias] : pairs_) follow(device, alias);
}

}  // namespace simulated_cuda
