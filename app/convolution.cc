#include "app/convolution.h"

namespace fastmax::app {
namespace {

// window [B, N + width - 1, C]: all that N outputs see.
at::Tensor add_filtered(const at::Tensor& h, const at::Tensor& window, const at::Tensor& c) {
  return h + at::conv1d(window.transpose(1, 2), c, /*bias=*/{}, /*stride=*/1,
                        /*padding=*/at::IntArrayRef{0},
                        /*dilation=*/1, /*groups=*/c.size(0))
                 .transpose(1, 2);
}

}  // namespace

at::Tensor convolve(const at::Tensor& h, const at::Tensor& c, std::int64_t before,
                    const at::Tensor& key_weight) {
  const at::Tensor real = key_weight.defined() ? h * key_weight.unsqueeze(-1) : h;
  const std::int64_t after = c.size(2) - 1 - before;
  return add_filtered(h, at::constant_pad_nd(real, {0, 0, before, after}), c);
}

at::Tensor convolve_on(const at::Tensor& h, const at::Tensor& c, at::Tensor& recent) {
  const at::Tensor window = at::cat({recent, h}, 1);
  recent = window.narrow(1, h.size(1), recent.size(1)).clone();
  return add_filtered(h, window, c);
}

}  // namespace fastmax::app
