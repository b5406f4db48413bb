// Counts of what a program does with the device.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace simulated_cuda {

// One operator that would launch a kernel. Views and allocations are none.
void count_operator(const std::string& name);

// One place where the host would wait for the device, and what made it wait.
void count_wait(const std::string& name);

// One copy between host and device.
void count_copy_in(int64_t bytes);
void count_copy_out(int64_t bytes);

// Device memory that is allocated and freed.
void count_allocation(int64_t bytes);
void count_release(int64_t bytes);

// Whether the call stacks of operators are kept. Those of waits always are.
void trace_operators(bool on);

// Sets all counts to zero, and the peak of the memory to what is in use.
void reset_counters();

// The count of this name, or -1.
int64_t counter(const std::string& name);

// Writes every operator and every wait, one a line: kind, count, name and, with a tab before each, the
// functions that called it, from the inside out.
void write_report(std::FILE* file);

}  // namespace simulated_cuda
