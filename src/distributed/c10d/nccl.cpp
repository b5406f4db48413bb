// The NCCL process group, in a library of its own: it needs libtorch_cuda, which a program loads only
// when it uses CUDA.
#include "shim.hpp"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

extern "C" char* ofb_nccl_open(OfbStore* store, int rank, int world_size, int64_t limit_ms,
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
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(keys, rank, world_size, std::move(options));
    *backend = new OfbBackend{std::move(group), true};
  });
}
