#include "app/profile.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "app/attention.h"
#include "app/names.h"

namespace fastmax::app {
namespace {

class ProfileOf : public testing::TestWithParam<std::string> {};

// Without the mark, the products of a rival would count as projections, forward and backward.
TEST_P(ProfileOf, ARivalsOperatorsAreAttention) {
  const ModelConfig config{.attention = GetParam(), .heads = 2, .dim = 16, .classes = 2};
  const Attention attention(config);
  const auto random = [] { return at::randn({2, 64, 2, 8}).requires_grad_(); };
  const Heads heads{random(), random(), random(), {}};
  const at::Tensor weight = at::randn({16, 16}).requires_grad_();
  Profile profile;
  profile.begin(0);
  const at::Tensor o = attention(heads, {}, /*training=*/false);
  o.sum().backward();
  profile.end();
  const auto parts = profile.json().at("parts");
  EXPECT_GT(parts.at("attention").get<double>(), 0);
  EXPECT_FALSE(parts.contains("projections")) << parts.dump();
  EXPECT_FALSE(parts.contains("activations")) << parts.dump();

  profile.begin(0);
  at::matmul(attention(heads, {}, false), weight).sum().backward();
  profile.end();
  EXPECT_GT(profile.json().at("parts").at("projections").get<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(Rivals, ProfileOf, testing::ValuesIn(rival_names()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace fastmax::app
