// What a program calls, by name (dlsym).
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "counters.h"

extern "C" {

// A count by its name (counters.cpp lists them); -1 for another name.
int64_t simulated_cuda_counter(const char* name) { return simulated_cuda::counter(name); }

// All counts begin anew; live memory stays what it is.
void simulated_cuda_reset() { simulated_cuda::reset_counters(); }

// Whether the report says where operators were called (0: no). Slow.
void simulated_cuda_trace(int on) { simulated_cuda::trace_operators(on != 0); }

// Writes a report (counters.h); 0 if it could be written.
int simulated_cuda_report(const char* path) {
  std::FILE* file = std::fopen(path, "w");
  if (!file) return 1;
  simulated_cuda::write_report(file);
  return std::fclose(file);
}
}

namespace {

// For a program that knows nothing of this device: a report when it ends, if SIMULATED_CUDA_REPORT names a
// file. With SIMULATED_CUDA_TRACE it says where operators were called.
struct ReportAtEnd {
  ReportAtEnd() { simulated_cuda_trace(std::getenv("SIMULATED_CUDA_TRACE") != nullptr); }
  ~ReportAtEnd() {
    const char* path = std::getenv("SIMULATED_CUDA_REPORT");
    if (path && simulated_cuda_report(path) != 0) std::perror(path);
  }
} report_at_end;

}  // namespace
