// Memory of the simulated device, and page-locked memory of the host.
#pragma once

#include <c10/core/Allocator.h>

namespace simulated_cuda {

inline const c10::Device kDevice(c10::DeviceType::CUDA, 0);

// A device address is a host address with this bit set. x86-64 has no such addresses, so the host
// faults where it reads or writes device memory.
void* device_address(void* host);
void* host_address(void* device);

// Makes host memory memory of the device, which then owns it.
c10::DataPtr to_device_memory(c10::DataPtr host, size_t bytes);

c10::Allocator& device_allocator();
c10::Allocator& pinned_allocator();

// Whether an address is in page-locked memory.
bool is_pinned(const void* address);

}  // namespace simulated_cuda
