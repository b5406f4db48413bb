// A read or write of device memory by the host ends the program. This says so, and where it was.
#include <execinfo.h>
#include <signal.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>

#include "symbols.h"

namespace simulated_cuda {
namespace {

struct sigaction before;

// Runs in the place of the instruction that failed, as if it had called this.
[[noreturn]] __attribute__((force_align_arg_pointer)) void end_program() {
  std::fputs("the host reads or writes memory of the simulated CUDA device:\n", stderr);
  void* frames[64];
  const int depth = backtrace(frames, 64);
  for (int i = 0; i < depth; i++) {
    const auto& name = function_name(frames[i]);
    if (!name.empty()) std::fprintf(stderr, "  %s\n", name.c_str());
  }
  std::abort();
}

// An address that cannot be (memory.h) has this code. Other faults go to whom they went before: a stack
// overflow needs the handler's own stack, which is too small to look for names.
void on_fault(int number, siginfo_t* info, void* context) {
  if (info->si_code != SI_KERNEL) {
    sigaction(number, &before, nullptr);  // the instruction is run again
    return;
  }
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RSP] -= sizeof(greg_t);
  *reinterpret_cast<greg_t*>(registers[REG_RSP]) = registers[REG_RIP];
  registers[REG_RIP] = reinterpret_cast<greg_t>(&end_program);
}

const bool installed = [] {
  struct sigaction ours {};
  ours.sa_sigaction = &on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  return sigaction(SIGSEGV, &ours, &before) == 0;
}();

}  // namespace
}  // namespace simulated_cuda
