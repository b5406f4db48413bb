// The NCCL process group, in a library of its own: it needs libtorch_cuda, which a program loads only
// when it uses CUDA.
#include "shim.hpp"

#include <ATen/cuda/CUDAContext.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

// NCCL cannot run two ranks on one card, and says "invalid usage" only.
static void check_cards_differ(const c10::intrusive_ptr<c10d::Store>& store, int rank, int world_size, int device) {
  const auto& id = at::cuda::getDeviceProperties(device)->uuid.bytes;
  store->set("card/" + std::to_string(rank), std::vector<uint8_t>(std::begin(id), std::end(id)));
  const auto own = store->get("card/" + std::to_string(rank));
  for (int other = 0; other < world_size; ++other) {
    TORCH_CHECK(
        other == rank || store->get("card/" + std::to_string(other)) != own, "card of rank ", rank,
        ": got that of rank ", other, ", expected one of its own; start as many processes as there are cards, or show "
        "each its own with CUDA_VISIBLE_DEVICES");
  }
}

extern "C" char* ofb_nccl_open(OfbStore* store, int rank, int world_size, int device, int64_t limit_ms,
                               OfbBackend** backend) {
  return ofb_guarded([&] {
    // Options holds a struct of nccl.h, which other versions lay out in another way.
    const auto [major, minor, patch] = c10d::getNcclVersionTuple();
    TORCH_CHECK(
        major == NCCL_MAJOR && minor == NCCL_MINOR, "version of NCCL: got ", major, ".", minor,
        ", expected ", NCCL_MAJOR, ".", NCCL_MINOR, " as in nccl.h when this program was built; build "
        "it again with the headers of ", major, ".", minor);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(limit_ms);
    auto keys = ofb_prefixed("nccl", store->store);
    check_cards_differ(keys, rank, world_size, device);
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(keys, rank, world_size, std::move(options));
    *backend = new OfbBackend{std::move(group), true};
  });
}
