// What the host reads or writes at a device address ends the program: say so, and where.
#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>

#include "symbols.h"

namespace simulated_cuda {
namespace {

struct sigaction before;

void say(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

// Linux gives no address for one that cannot be (memory.h), but this code.
void report(int number, siginfo_t* info, void* context) {
  if (info->si_code == SI_KERNEL) {
    say("the host reads or writes memory of the simulated CUDA device:\n");
    void* frames[64];
    const int depth = backtrace(frames, 64);
    for (int i = 0; i < depth; i++) {
      const auto& name = function_name(frames[i]);
      if (name.empty()) continue;
      say("  ");
      say(name.c_str());
      say("\n");
    }
    signal(number, SIG_DFL);
  } else {
    sigaction(number, &before, nullptr);  // not ours: it happens again, and goes to whom it went before
  }
}

const bool installed = [] {
  struct sigaction ours {};
  ours.sa_sigaction = &report;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  return sigaction(SIGSEGV, &ours, &before) == 0;
}();

}  // namespace
}  // namespace simulated_cuda
