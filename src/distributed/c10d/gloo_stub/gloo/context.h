// Declarations of gloo that torch's ProcessGroupGloo.hpp names, written for this crate: wheels of
// PyTorch hold gloo's code but not its headers. Only pointers to these types are used here, so their
// layout does not matter, and no object of them is made.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

} // namespace gloo
