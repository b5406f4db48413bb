#include "counters.h"

#include <execinfo.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "symbols.h"

namespace simulated_cuda {
namespace {

using Stack = std::vector<void*>;
using Counts = std::map<std::pair<std::string, Stack>, int64_t>;

// Never destroyed: the report may be written when the program ends, and threads may still run.
std::mutex& lock = *new std::mutex;
Counts& operators = *new Counts;  // a stack is empty unless it is traced
Counts& waits = *new Counts;
std::atomic<bool> traced{false};

std::atomic<int64_t> operator_count{0}, wait_count{0};
std::atomic<int64_t> copies_in{0}, bytes_in{0}, copies_out{0}, bytes_out{0};
std::atomic<int64_t> allocations{0}, live_bytes{0}, peak_bytes{0};

const auto& by_name = *new std::map<std::string, std::atomic<int64_t>*>{
    {"operators", &operator_count},
    {"waits", &wait_count},
    {"copies_to_device", &copies_in},
    {"bytes_to_device", &bytes_in},
    {"copies_to_host", &copies_out},
    {"bytes_to_host", &bytes_out},
    {"allocations", &allocations},
    {"live_bytes", &live_bytes},
    {"peak_bytes", &peak_bytes},
};

Stack stack_here() {
  constexpr int kDeepest = 256, kOwn = 2;
  void* frames[kDeepest];
  const int depth = backtrace(frames, kDeepest);
  return Stack(frames + std::min(kOwn, depth), frames + depth);
}

void write_counts(std::FILE* file, const char* kind, const Counts& counts) {
  std::vector<std::pair<int64_t, const Counts::key_type*>> rows;
  for (const auto& [key, count] : counts) rows.emplace_back(count, &key);
  std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.first > b.first; });
  for (const auto& [count, key] : rows) {
    std::fprintf(file, "%s\t%lld\t%s", kind, static_cast<long long>(count), key->first.c_str());
    for (void* address : key->second) {
      const std::string& name = function_name(address);
      if (!name.empty()) std::fprintf(file, "\t%s", name.c_str());
    }
    std::fputc('\n', file);
  }
}

}  // namespace

void count_operator(const std::string& name) {
  operator_count++;
  Stack stack = traced ? stack_here() : Stack();
  std::lock_guard<std::mutex> guard(lock);
  operators[{name, std::move(stack)}]++;
}

void count_wait(const std::string& name) {
  wait_count++;
  Stack stack = stack_here();
  std::lock_guard<std::mutex> guard(lock);
  waits[{name, std::move(stack)}]++;
}

void count_copy_in(int64_t bytes) {
  copies_in++;
  bytes_in += bytes;
}

void count_copy_out(int64_t bytes) {
  copies_out++;
  bytes_out += bytes;
}

void count_allocation(int64_t bytes) {
  allocations++;
  const int64_t now = live_bytes += bytes;
  int64_t peak = peak_bytes;
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
  }
}

void count_release(int64_t bytes) { live_bytes -= bytes; }

void trace_operators(bool on) { traced = on; }

void reset_counters() {
  std::lock_guard<std::mutex> guard(lock);
  operators.clear();
  waits.clear();
  for (const auto& [name, count] : by_name) {
    if (count != &live_bytes && count != &peak_bytes) *count = 0;
  }
  peak_bytes = live_bytes.load();
}

int64_t counter(const std::string& name) {
  const auto found = by_name.find(name);
  return found == by_name.end() ? -1 : found->second->load();
}

void write_report(std::FILE* file) {
  std::lock_guard<std::mutex> guard(lock);
  write_counts(file, "operator", operators);
  write_counts(file, "wait", waits);
}

}  // namespace simulated_cuda
