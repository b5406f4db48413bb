// Tensors of the device as the host's kernels see them, for the time of one operator.
#pragma once

#include <ATen/core/Tensor.h>

#include <unordered_map>
#include <utility>
#include <vector>

namespace simulated_cuda {

// A tensor of the device and its alias on the host share their bytes; nothing is copied. Tensors that
// shared a storage share one on the other side, too.
class Bridge {
 public:
  // The alias of a device tensor on the host. Other tensors are returned as they are.
  at::Tensor to_host(const at::Tensor& tensor);

  // A kernel's result on the device: the device tensor whose alias it is, a view of an argument's storage,
  // or fresh memory, which the device takes over.
  at::Tensor to_device(const at::Tensor& result);

  // Arguments that a kernel resized are resized on the device, too.
  void finish();

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;  // device tensor, alias
  std::unordered_map<c10::StorageImpl*, c10::Storage> host_of_, device_of_;
};

}  // namespace simulated_cuda
