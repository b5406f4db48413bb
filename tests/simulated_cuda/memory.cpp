#include "memory.h"

#include <c10/core/CPUAllocator.h>

#include <cstring>
#include <map>
#include <mutex>

#include "counters.h"

namespace simulated_cuda {
namespace {

constexpr uintptr_t kDeviceBit = uintptr_t(1) << 62;

struct Block {
  c10::DataPtr host;
  int64_t bytes;
};

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  count_release(block->bytes);
  delete block;
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    return to_device_memory(c10::GetCPUAllocator()->allocate(bytes), bytes);
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(host_address(to), host_address(const_cast<void*>(from)), bytes);
  }
};

// Ordinary memory whose place is remembered. Leaked on purpose: memory may outlive static objects.
struct PinnedBlocks {
  std::mutex lock;
  std::map<uintptr_t, size_t> sizes;  // by first address

  static PinnedBlocks& all() {
    static auto* blocks = new PinnedBlocks;
    return *blocks;
  }
};

void unpin(void* context) {
  auto* host = static_cast<c10::DataPtr*>(context);
  {
    auto& blocks = PinnedBlocks::all();
    std::lock_guard<std::mutex> guard(blocks.lock);
    blocks.sizes.erase(reinterpret_cast<uintptr_t>(host->get()));
  }
  delete host;
}

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto* host = new c10::DataPtr(c10::GetCPUAllocator()->allocate(bytes));
    auto& blocks = PinnedBlocks::all();
    std::lock_guard<std::mutex> guard(blocks.lock);
    blocks.sizes[reinterpret_cast<uintptr_t>(host->get())] = bytes;
    return c10::DataPtr(host->get(), host, &unpin, c10::Device(c10::kCPU));
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

void* device_address(void* host) {
  const auto bits = reinterpret_cast<uintptr_t>(host);
  return bits ? reinterpret_cast<void*>(bits | kDeviceBit) : nullptr;
}

void* host_address(void* device) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(device) & ~kDeviceBit);
}

c10::DataPtr to_device_memory(c10::DataPtr host, size_t bytes) {
  count_allocation(static_cast<int64_t>(bytes));
  void* address = device_address(host.get());
  return c10::DataPtr(address, new Block{std::move(host), static_cast<int64_t>(bytes)}, &release, kDevice);
}

c10::Allocator& device_allocator() {
  static auto* allocator = new DeviceAllocator;
  return *allocator;
}

c10::Allocator& pinned_allocator() {
  static auto* allocator = new PinnedAllocator;
  return *allocator;
}

bool is_pinned(const void* address) {
  auto& blocks = PinnedBlocks::all();
  std::lock_guard<std::mutex> guard(blocks.lock);
  const auto here = reinterpret_cast<uintptr_t>(address);
  auto block = blocks.sizes.upper_bound(here);
  if (block == blocks.sizes.begin()) return false;
  --block;
  return here < block->first + block->second;
}

}  // namespace simulated_cuda
