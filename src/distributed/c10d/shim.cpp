// C interface of torch's c10d: the store, the gloo process group, and operations of any process group.
#include "shim.hpp"

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

using std::chrono::milliseconds;

std::vector<uint8_t> bytes_of(const char* bytes, size_t length) {
  return std::vector<uint8_t>(bytes, bytes + length);
}

// Every error is returned. c10d prints it beforehand, with a stack of C++ functions: only where
// TORCH_CPP_LOG_LEVEL asks for it.
void keep_log_quiet() {
  constexpr int fatal_only = 3;
  c10::initLogging();
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = fatal_only;
}

OfbWork* started(const OfbBackend* backend, c10::intrusive_ptr<c10d::Work> work) {
  return new OfbWork{std::move(work), backend->on_stream};
}

} // namespace

extern "C" {

void ofb_free_bytes(char* bytes) {
  std::free(bytes);
}

// Connects to the store at an address within `connect_ms`, and hosts it there where `hosts` is not 0. Keys
// get the prefix; a value is waited for `limit_ms`.
char* ofb_store_open(const char* host, uint16_t port, int hosts, int64_t connect_ms, int64_t limit_ms,
                     const char* prefix, OfbStore** store) {
  return ofb_guarded([&] {
    keep_log_quiet();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = hosts != 0;
    options.waitWorkers = false;
    options.timeout = milliseconds(connect_ms);
    auto connection = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    connection->setTimeout(milliseconds(limit_ms));
    *store = new OfbStore{ofb_prefixed(prefix, std::move(connection))};
  });
}

// The same connection, whose keys get a further prefix.
char* ofb_store_within(const OfbStore* store, const char* prefix, OfbStore** within) {
  return ofb_guarded([&] { *within = new OfbStore{ofb_prefixed(prefix, store->store)}; });
}

void ofb_store_close(OfbStore* store) {
  std::free(ofb_guarded([&] { delete store; }));
}

char* ofb_store_set(OfbStore* store, const char* key, const char* value, size_t length) {
  return ofb_guarded([&] { store->store->set(std::string(key), bytes_of(value, length)); });
}

// Sets a key that has no value yet.
char* ofb_store_set_once(OfbStore* store, const char* key, const char* value, size_t length) {
  return ofb_guarded([&] {
    store->store->compareSet(std::string(key), std::vector<uint8_t>(), bytes_of(value, length));
  });
}

// Adds to a counter, and returns its new value.
char* ofb_store_add(OfbStore* store, const char* key, int64_t amount, int64_t* value) {
  return ofb_guarded([&] { *value = store->store->add(std::string(key), amount); });
}

char* ofb_store_has(OfbStore* store, const char* key, int* has) {
  return ofb_guarded([&] { *has = store->store->check({std::string(key)}); });
}

// Waits until a key has a value; an error at the limit.
char* ofb_store_wait(OfbStore* store, const char* key, int64_t limit_ms) {
  return ofb_guarded([&] { store->store->wait({std::string(key)}, milliseconds(limit_ms)); });
}

// The value of a key that has one.
char* ofb_store_get(OfbStore* store, const char* key, char** value, size_t* length) {
  return ofb_guarded([&] {
    const auto bytes = store->store->get(std::string(key));
    *value = ofb_copy(bytes.data(), bytes.size());
    *length = bytes.size();
  });
}

// The gloo group, which connects each pair of ranks. `address` is that of this rank's network
// interface; null: as GLOO_SOCKET_IFNAME says.
char* ofb_gloo_open(OfbStore* store, int rank, int world_size, int64_t limit_ms, const char* address,
                    OfbBackend** backend) {
  return ofb_guarded([&] {
    using Gloo = c10d::ProcessGroupGloo;
    const milliseconds limit(limit_ms);
    auto options = address == nullptr ? Gloo::Options::create_default(limit) : Gloo::Options::create(limit);
    if (address != nullptr) options->devices.push_back(Gloo::createDeviceForHostname(address));
    auto keys = ofb_prefixed("gloo", store->store);
    auto group = c10::make_intrusive<Gloo>(keys, rank, world_size, std::move(options));
    *backend = new OfbBackend{std::move(group), false};
  });
}

void ofb_backend_close(OfbBackend* backend) {
  std::free(ofb_guarded([&] { delete backend; }));
}

char* ofb_all_reduce(OfbBackend* backend, const at::Tensor* tensor, OfbWork** work) {
  return ofb_guarded([&] {
    std::vector<at::Tensor> tensors{*tensor}; // gloo sums over the list, too: one tensor a call
    *work = started(backend, backend->backend->allreduce(tensors));
  });
}

char* ofb_broadcast(OfbBackend* backend, const at::Tensor* tensor, int root, OfbWork** work) {
  return ofb_guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    *work = started(backend, backend->backend->broadcast(tensors, options));
  });
}

// `all` has world_size times the elements of `own`.
char* ofb_all_gather(OfbBackend* backend, const at::Tensor* all, const at::Tensor* own, OfbWork** work) {
  return ofb_guarded([&] {
    at::Tensor output = *all;
    at::Tensor input = *own;
    *work = started(backend, backend->backend->_allgather_base(output, input));
  });
}

char* ofb_barrier(OfbBackend* backend, OfbWork** work) {
  return ofb_guarded([&] { *work = started(backend, backend->backend->barrier()); });
}

// Waits for the end of an operation, at most `slice_ms`; `done` is 0 if it goes on.
char* ofb_work_wait(OfbWork* work, int64_t slice_ms, int* done) {
  return ofb_guarded([&] {
    *done = 1;
    if (work->on_stream) {
      work->work->wait();
      return;
    }
    try {
      work->work->wait(milliseconds(slice_ms));
    } catch (...) {
      if (work->work->isCompleted()) work->work->wait(); // the operation's own error, if it has one
      else *done = 0;
    }
  });
}

void ofb_work_free(OfbWork* work) {
  std::free(ofb_guarded([&] { delete work; }));
}

} // extern "C"
