// What the two libraries of the shim share: handles, and errors without exceptions.
//
// Every function of the C interface returns null, or the message of the exception that it caught, which
// ofb_free_bytes releases.
#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

// A connection to the store of a group.
struct OfbStore {
  c10::intrusive_ptr<c10d::Store> store;
};

// A process group over one transport.
struct OfbBackend {
  c10::intrusive_ptr<c10d::Backend> backend;
  // Whether operations are queued on a CUDA stream: waiting then orders the stream, not the host.
  bool on_stream;
};

// An operation in progress.
struct OfbWork {
  c10::intrusive_ptr<c10d::Work> work;
  bool on_stream;
};

// The same store, with keys of its own for each user.
inline c10::intrusive_ptr<c10d::Store> ofb_prefixed(const char* prefix, c10::intrusive_ptr<c10d::Store> store) {
  return c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), std::move(store));
}

// malloc, because the caller frees without knowing who allocated.
inline char* ofb_copy(const void* bytes, size_t length) {
  char* copy = static_cast<char*>(std::malloc(length + 1));
  if (copy == nullptr) std::abort(); // as Rust does without memory
  std::memcpy(copy, bytes, length);
  copy[length] = 0;
  return copy;
}

template <class Body>
char* ofb_guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    const char* what = error.what_without_backtrace();
    return ofb_copy(what, std::strlen(what));
  } catch (const std::exception& error) {
    return ofb_copy(error.what(), std::strlen(error.what()));
  } catch (...) {
    static const char unknown[] = "unknown C++ exception";
    return ofb_copy(unknown, sizeof unknown - 1);
  }
}
