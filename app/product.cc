#include "app/product.h"

#include <torch/csrc/autograd/custom_function.h>

namespace fastmax::app {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kFew = 16;

// (b^T a^T)^T where b has few columns.
at::Tensor times(const at::Tensor& a, const at::Tensor& b) {
  if (b.size(-1) >= kFew) return at::matmul(a, b);
  return at::matmul(b.transpose(-1, -2), a.transpose(-1, -2)).transpose(-1, -2);
}

// The gradients are products too, da = dc b^T and db = a^T dc: da has few columns where b has few rows.
struct Product : torch::autograd::Function<Product> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& a, const at::Tensor& b) {
    context->save_for_backward({a, b});
    return times(a, b);
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outputs) {
    const variable_list saved = context->get_saved_variables();
    const auto gradient = [&](std::size_t input, const at::Tensor& x, const at::Tensor& y) {
      return context->needs_input_grad(input) ? times(x, y) : at::Tensor();
    };
    return {gradient(0, d_outputs[0], saved[1].transpose(-1, -2)),
            gradient(1, saved[0].transpose(-1, -2), d_outputs[0])};
  }
};

}  // namespace

at::Tensor product(const at::Tensor& a, const at::Tensor& b) { return Product::apply(a, b); }

}  // namespace fastmax::app
