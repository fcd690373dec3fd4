#include "app/dropout.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>

#include "app/dropout_kernel.h"

namespace fastmax::app {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Work for one thread: what is worth starting another, a whole number of groups.
constexpr std::int64_t kGrain = 256 * kDropoutGroup;

at::Tensor add_kept(const std::optional<at::Tensor>& x, const at::Tensor& z_any,
                    const DropoutMask& mask) {
  const at::Tensor z = z_any.contiguous(), x_dense = x ? x->contiguous() : at::Tensor();
  at::Tensor out = at::empty_like(z);
  const float* from = x ? x_dense.const_data_ptr<float>() : nullptr;
  const float* to_drop = z.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const std::int64_t n = z.numel(), grains = (n + kGrain - 1) / kGrain;
  // Not at::parallel_for: a header's, it has threads only where OpenMP is compiled in.
  torch::stable::parallel_for(0, grains, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * kGrain, last = std::min(end * kGrain, n);
    app::add_kept(from ? from + first : nullptr, to_drop + first, to + first, first, last - first,
                  mask);
  });
  return out;
}

struct AddDropped : torch::autograd::Function<AddDropped> {
  static at::Tensor forward(AutogradContext* context, const std::optional<at::Tensor>& x,
                            const at::Tensor& z, double rate, std::int64_t seed) {
    RECORD_FUNCTION("AddDropped", {});
    context->saved_data = {{"rate", rate}, {"seed", seed}, {"x", x.has_value()}};
    at::AutoDispatchBelowADInplaceOrView below;
    return add_kept(x, z, DropoutMask(rate, static_cast<std::uint64_t>(seed)));
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outputs) {
    const DropoutMask mask(context->saved_data.at("rate").toDouble(),
                           static_cast<std::uint64_t>(context->saved_data.at("seed").toInt()));
    const bool adds = context->saved_data.at("x").toBool();
    return {adds ? d_outputs[0] : at::Tensor(), add_kept({}, d_outputs[0], mask), {}, {}};
  }
};

}  // namespace

std::int64_t draw_seed() {
  return at::randint(std::numeric_limits<std::int64_t>::max(), {1}, at::kLong).item<std::int64_t>();
}

at::Tensor add_dropped(const std::optional<at::Tensor>& x, const at::Tensor& z, double rate,
                       std::int64_t seed) {
  return AddDropped::apply(x, z, rate, seed);
}

}  // namespace fastmax::app
