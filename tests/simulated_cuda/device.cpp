// One device with one stream, as libtorch asks for it. Every operator has ended when it returns, so
// streams and events have nothing to do but to count who waits.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "counters.h"
#include "memory.h"

namespace simulated_cuda {
namespace {

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }

  c10::DeviceType type() const override { return kDevice.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { count_wait("synchronize stream"); }

  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override { count_wait("synchronize event"); }
  void synchronizeDevice(const c10::DeviceIndex) const override { count_wait("synchronize device"); }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace
}  // namespace simulated_cuda

namespace at {

struct SimulatedCudaHooks final : CUDAHooksInterface {
  explicit SimulatedCudaHooks(CUDAHooksArgs) {}

  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  std::string showConfig() const override { return "simulated CUDA device"; }

  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  Device getDeviceFromPtr(void*) const override { return simulated_cuda::kDevice; }
  void deviceSynchronize(DeviceIndex) const override { simulated_cuda::count_wait("synchronize device"); }

  // The host's generator: random numbers are those of the CPU.
  const Generator& getDefaultGenerator(DeviceIndex) const override { return detail::getDefaultCPUGenerator(); }
  Generator getNewGenerator(DeviceIndex) const override { return detail::createCPUGenerator(); }

  Allocator* getCUDADeviceAllocator() const override { return &simulated_cuda::device_allocator(); }
  Allocator* getPinnedMemoryAllocator() const override { return &simulated_cuda::pinned_allocator(); }
  bool isPinnedPtr(const void* address) const override { return simulated_cuda::is_pinned(address); }
};
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", SimulatedCudaHooks)

}  // namespace at

namespace {

// Above the priority of every other allocator of this device.
const bool registered = (c10::SetAllocator(c10::DeviceType::CUDA, &simulated_cuda::device_allocator(), 255), true);

}  // namespace
