// A backward pass that hands over each gradient as soon as it is complete.
#include "shim.hpp"

#include <vector>

#include <torch/csrc/autograd/autograd.h>

namespace {

// Hooks of the leaves, until the end of the pass.
class Hooks {
 public:
  ~Hooks() {
    for (size_t at = 0; at < handles_.size(); ++at) leaves_[at].remove_hook(handles_[at]);
  }

  template <class Hook>
  void add(const at::Tensor& leaf, Hook hook) {
    handles_.push_back(leaf.register_hook(std::move(hook)));
    leaves_.push_back(leaf);
  }

 private:
  std::vector<at::Tensor> leaves_;
  std::vector<unsigned> handles_;
};

} // namespace

extern "C" {

// Runs the backward pass of a scalar. `ready` is called with the context, the number of a leaf and its
// gradient, which the receiver owns; not for a leaf that the scalar does not depend on.
char* ofb_backward(const at::Tensor* loss, const at::Tensor* const* leaves, int count, void* context,
                   void (*ready)(void*, int, at::Tensor*)) {
  return ofb_guarded([&] {
    Hooks hooks;
    torch::autograd::variable_list inputs;
    for (int at = 0; at < count; ++at) {
      inputs.push_back(*leaves[at]);
      hooks.add(*leaves[at], [=](const at::Tensor& gradient) {
        if (gradient.defined()) ready(context, at, new at::Tensor(gradient));
      });
    }
    torch::autograd::grad({*loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false,
                          /*allow_unused=*/true);
  });
}

} // extern "C"
