// Names of functions by their addresses.
#pragma once

#include <string>

namespace simulated_cuda {

// The name of the function that an address of this program lies in; empty for other libraries' code.
const std::string& function_name(void* address);

}  // namespace simulated_cuda
