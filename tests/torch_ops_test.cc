// The operators as a C++ program sees them: numbers, gradients, layouts and errors, on full libtorch.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

#include "torch_ops/autograd.h"

namespace {

using at::Tensor;
using fastmax::torch_ops::attention;
using fastmax::torch_ops::attention_with_state;
using fastmax::torch_ops::AttentionOptions;
using fastmax::torch_ops::step;
using torch::indexing::Slice;
using OptionalTensor = std::optional<Tensor>;

struct Case {
  std::int64_t B, H, Hkv, N, M, D, E;
  std::int64_t p;
  bool causal, weighted;
  const char* method;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "B" << c.B << " H" << c.H << "/" << c.Hkv << " N" << c.N << " M" << c.M << " D"
             << c.D << " E" << c.E << " p" << c.p << (c.causal ? " causal" : "")
             << (c.weighted ? " weighted " : " ") << c.method;
}

Tensor normal(at::IntArrayRef shape, at::ScalarType type = at::kDouble) {
  return torch::randn(shape, at::TensorOptions(type));
}

/// Weights of which a third are zero: padding and tokens, but not at the first key, so that every
/// row of a causal case has something to see.
Tensor key_weights(std::int64_t B, std::int64_t M) {
  const Tensor uniform = torch::rand({B, M}, at::kDouble);
  Tensor w = uniform * (uniform > 1. / 3);
  w.select(1, 0).fill_(1);
  return w;
}

/// The definition, by torch operations: what autograd differentiates is independent of our backward.
Tensor definition(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& w,
                  std::int64_t p, double scale, bool causal) {
  const auto standardize = [](const Tensor& x) {
    const Tensor centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + 1e-6).sqrt();
  };
  const std::int64_t group = q.size(1) / k.size(1), N = q.size(2), M = k.size(2);
  const Tensor keys = standardize(k).repeat_interleave(group, 1);
  const Tensor s = scale * standardize(q).matmul(keys.transpose(-2, -1));
  Tensor f = torch::ones_like(s), power = torch::ones_like(s);
  for (std::int64_t l = 1; l <= p; ++l) {
    power = power * s / static_cast<double>(l);
    f = f + power;
  }
  if (w) f = f * w->unsqueeze(1).unsqueeze(1);
  if (causal) f = f.tril(M - N);
  return f.matmul(v.repeat_interleave(group, 1)) / f.sum(-1, true);
}

class Operators : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { torch::manual_seed(7); }
};

TEST_P(Operators, GiveTheDefinitionAndItsGradient) {
  const Case c = GetParam();
  // Not the default, and safe: no weight of an odd order is negative where |s| <= 0.9.
  const double scale = c.p % 2 == 1 ? 0.9 / static_cast<double>(c.D) : 0.7;
  const Tensor q = normal({c.B, c.H, c.N, c.D}).requires_grad_(),
               k = normal({c.B, c.Hkv, c.M, c.D}).requires_grad_(),
               v = normal({c.B, c.Hkv, c.M, c.E}).requires_grad_();
  const OptionalTensor w = c.weighted ? OptionalTensor(key_weights(c.B, c.M)) : std::nullopt;
  const Tensor o =
      attention(q, k, v, w, {.p = c.p, .scale = scale, .causal = c.causal, .method = c.method});
  const Tensor truth = definition(q, k, v, w, c.p, scale, c.causal);
  ASSERT_LE((o - truth).abs().max().item<double>(), 1e-12);

  const Tensor d_o = normal(o.sizes());
  const auto gradient = torch::autograd::grad({o}, {q, k, v}, {d_o});
  const auto true_gradient = torch::autograd::grad({truth}, {q, k, v}, {d_o});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LE((gradient[i] - true_gradient[i]).abs().max().item<double>(), 1e-10) << "qkv"[i];
  }
}

TEST_P(Operators, GradientIsTheSlopeOfTheOutput) {
  const Case c = GetParam();
  const OptionalTensor w = c.weighted ? OptionalTensor(key_weights(c.B, c.M)) : std::nullopt;
  std::vector<Tensor> x = {normal({c.B, c.H, c.N, c.D}), normal({c.B, c.Hkv, c.M, c.D}),
                           normal({c.B, c.Hkv, c.M, c.E})};
  const auto loss = [&](const std::vector<Tensor>& at) {
    return attention(at[0], at[1], at[2], w, {.p = c.p, .causal = c.causal, .method = c.method})
        .sin()
        .sum();
  };
  for (Tensor& t : x) t.requires_grad_();
  const auto gradient = torch::autograd::grad({loss(x)}, x);
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < 3; ++i) {  // along one random direction in each argument
    const Tensor direction = normal(x[i].sizes());
    const double h = 1e-5;
    std::vector<Tensor> ahead = x, behind = x;
    ahead[i] = x[i] + h * direction;
    behind[i] = x[i] - h * direction;
    const double slope = (loss(ahead) - loss(behind)).item<double>() / (2 * h);
    EXPECT_NEAR((gradient[i] * direction).sum().item<double>(), slope, 1e-6 * (1 + std::abs(slope)))
        << "qkv"[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Operators,
                         testing::Values(Case{2, 3, 3, 17, 17, 5, 5, 2, false, false, "auto"},
                                         Case{2, 2, 2, 13, 13, 8, 3, 2, true, false, "direct"},
                                         Case{2, 2, 2, 70, 70, 4, 6, 2, true, true, "factorised"},
                                         Case{1, 4, 2, 9, 20, 6, 6, 1, true, true, "auto"},
                                         Case{2, 2, 1, 11, 4, 16, 7, 1, false, true, "factorised"},
                                         Case{1, 2, 2, 12, 12, 4, 4, 3, true, false, "auto"},
                                         Case{1, 2, 2, 12, 15, 3, 4, 4, true, true, "auto"}));

TEST(Layouts, StridedInputsGiveTheSameNumbers) {
  torch::manual_seed(8);
  const Tensor qkv = normal({2, 10, 3, 4, 8}, at::kFloat);  // [B, N, 3, H, D], one projection
  const Tensor q = qkv.select(2, 0).transpose(1, 2), k = qkv.select(2, 1).transpose(1, 2),
               v = qkv.select(2, 2).transpose(1, 2);
  const Tensor o = attention(q, k, v);
  EXPECT_TRUE(torch::equal(o, attention(q.contiguous(), k.contiguous(), v.contiguous())));
  const Tensor spread = torch::zeros({2, 4, 10, 8, 2}).select(-1, 0).copy_(q);  // D is not adjacent
  EXPECT_TRUE(torch::equal(o, attention(spread, k, v)));
}

TEST(Layouts, OutputAndGradientsLieInMemoryAsTheirTensors) {
  const auto backed_by_tokens = [](std::int64_t D) {  // [B, H, N, D] over [B, N, H, D]
    return normal({2, 10, 4, D}, at::kFloat).transpose(1, 2);
  };
  const Tensor q = backed_by_tokens(8).requires_grad_(), v = backed_by_tokens(6).requires_grad_();
  const Tensor k = normal({2, 4, 10, 8}, at::kFloat).requires_grad_();
  const Tensor o = attention(q, k, v);
  EXPECT_TRUE(o.transpose(1, 2).is_contiguous());
  EXPECT_EQ(o.transpose(1, 2).reshape({2, 10, 24}).data_ptr(), o.data_ptr());
  const auto gradient = torch::autograd::grad({o.sum()}, {q, k, v});
  EXPECT_TRUE(gradient[0].transpose(1, 2).is_contiguous());
  EXPECT_TRUE(gradient[1].is_contiguous());
  EXPECT_TRUE(gradient[2].transpose(1, 2).is_contiguous());
}

TEST(Layouts, AnExpandedGradientIsRead) {
  const Tensor q = normal({1, 2, 7, 4}).requires_grad_();
  const Tensor o = attention(q, q, q);
  const Tensor one = torch::ones({}, at::kDouble);
  const Tensor expanded = torch::autograd::grad({o}, {q}, {one.expand_as(o)}, true)[0];
  EXPECT_TRUE(torch::equal(expanded, torch::autograd::grad({o}, {q}, {torch::ones_like(o)})[0]));
}

TEST(KeyWeight, ZeroIsAShorterSequence) {
  torch::manual_seed(9);
  const Tensor q = normal({2, 2, 12, 8}), k = normal({2, 2, 12, 8}), v = normal({2, 2, 12, 8});
  Tensor w = torch::zeros({2, 12}, at::kDouble);
  w.index_put_({Slice(), Slice(0, 9)}, 1);
  const auto first9 = [](const Tensor& x) { return x.slice(2, 0, 9); };
  EXPECT_LE((attention(q, k, v, w) - attention(q, first9(k), first9(v))).abs().max().item<double>(),
            1e-14);
}

TEST(Empty, SizesAreLegal) {
  const auto zeros = [](std::int64_t B, std::int64_t N) { return torch::zeros({B, 2, N, 4}); };
  EXPECT_EQ(attention(zeros(0, 5), zeros(0, 5), zeros(0, 5)).sizes(),
            at::IntArrayRef({0, 2, 5, 4}));
  EXPECT_EQ(attention(zeros(1, 0), zeros(1, 5), zeros(1, 5)).sizes(),
            at::IntArrayRef({1, 2, 0, 4}));
  EXPECT_TRUE(torch::equal(attention(zeros(1, 5), zeros(1, 0), zeros(1, 0)), zeros(1, 5)));
}

/// The largest difference, relative to the largest number.
double difference(const Tensor& x, const Tensor& truth) {
  return ((x - truth).abs().max() / truth.abs().max()).item<double>();
}

TEST(States, AnySplitIsTheWholeWithItsGradient) {
  torch::manual_seed(10);
  const Tensor q = normal({2, 4, 30, 6}).requires_grad_(),
               k = normal({2, 2, 30, 6}).requires_grad_(),
               v = normal({2, 2, 30, 5}).requires_grad_(), d_o = normal({2, 4, 30, 5});
  const AttentionOptions causal{.causal = true};
  const Tensor whole = attention(q, k, v, {}, causal);
  const auto part = [](const Tensor& x, std::int64_t from, std::int64_t to) {
    return x.slice(2, from, to);
  };
  const auto [first, state] =
      attention_with_state(part(q, 0, 11), part(k, 0, 11), part(v, 0, 11), {}, {}, causal);
  EXPECT_EQ(state.sizes(), at::IntArrayRef({2, 2, 28, 6}));
  const auto [second, last] =
      attention_with_state(part(q, 11, 30), part(k, 11, 30), part(v, 11, 30), {}, state, causal);
  const Tensor o = torch::cat({first, second}, 2);
  EXPECT_LE(difference(o, whole), 1e-13);
  const auto gradient = torch::autograd::grad({o}, {q, k, v}, {d_o});
  const auto true_gradient = torch::autograd::grad({whole}, {q, k, v}, {d_o});
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_LE(difference(gradient[i], true_gradient[i]), 1e-12) << "qkv"[i];
}

TEST(States, AStateThatNobodyReadsOnStillHasAGradient) {
  torch::manual_seed(11);
  const Tensor k = normal({1, 2, 7, 4}).requires_grad_(), v = normal({1, 2, 7, 3}).requires_grad_();
  const Tensor none = torch::zeros({1, 2, 0, 4}, at::kDouble);
  const Tensor state = attention_with_state(none, k, v).second;
  const auto gradient = torch::autograd::grad({state.select(-1, 0).sum()}, {k, v});
  const double h = 1e-6;
  Tensor ahead = v.detach().clone(), behind = v.detach().clone();
  ahead[0][1][3][0] += h;
  behind[0][1][3][0] -= h;
  const auto sum = [&](const Tensor& at) {
    return attention_with_state(none, k.detach(), at).second.select(-1, 0).sum().item<double>();
  };
  EXPECT_NEAR(gradient[1][0][1][3][0].item<double>(), (sum(ahead) - sum(behind)) / (2 * h), 1e-7);
  EXPECT_GT(gradient[0].abs().max().item<double>(), 0);
}

TEST(States, StepsGiveTheCausalPass) {
  torch::manual_seed(12);
  const Tensor q = normal({2, 4, 9, 6}), k = normal({2, 2, 9, 6}), v = normal({2, 2, 9, 5});
  const Tensor whole = attention(q, k, v, {}, {.causal = true});
  Tensor state = torch::zeros({2, 2, 28, 6}, at::kDouble);
  const auto version = state._version();
  for (std::int64_t n = 0; n < 9; ++n) {
    const auto token = [&](const Tensor& x) { return x.slice(2, n, n + 1); };
    EXPECT_LE(difference(step(token(q), token(k), token(v), state), token(whole)), 1e-13);
  }
  EXPECT_EQ(state._version(), version + 9);
  EXPECT_LE(difference(state, attention_with_state(q, k, v).second), 1e-13);
}

// The floor is that of attention: a scale at which weights are negative is an error with a state as without, which then
// stays as it was, unless clamping is asked for. A weight of zero leaves a token out.
TEST(States, StepsTakeFloorAndWeight) {
  torch::manual_seed(16);
  const Tensor q = normal({1, 2, 1, 6}), v = normal({1, 2, 1, 5});
  const AttentionOptions paper{.p = 1, .scale = 1};
  AttentionOptions clamped = paper;
  clamped.floor = "clamp";
  Tensor state = torch::zeros({1, 2, 7, 6}, at::kDouble);
  step(q, q, v, state, torch::full({1, 1}, 2, at::kDouble), paper);
  const Tensor before = state.clone();
  EXPECT_THROW(step(-q, q, v, state, {}, paper), fastmax::Error);
  EXPECT_THROW(attention_with_state(-q, q, v, {}, state, paper), fastmax::Error);
  EXPECT_TRUE(torch::equal(state, before));
  step(-q, q, v, state, torch::zeros({1, 1}, at::kDouble), clamped);
  EXPECT_TRUE(torch::equal(state, before));
  step(-q, q, v, state, {}, clamped);
  EXPECT_EQ(state.index({0, 0, 0, -1}).item<double>(), 3);
}

TEST(Elements, OfSixteenBitsGoInAndComeOut) {
  torch::manual_seed(13);
  const auto make = [](at::ScalarType type) { return normal({1, 2, 20, 8}).to(type); };
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Tensor q = make(type).requires_grad_(), k = make(type), v = make(type);
    const auto [o, state] = attention_with_state(q, k, v);
    EXPECT_EQ(o.scalar_type(), type);
    EXPECT_EQ(state.scalar_type(), at::kFloat);
    const Tensor truth = attention(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble));
    EXPECT_LE(difference(o.to(at::kDouble), truth), type == at::kHalf ? 1e-3 : 8e-3);
    EXPECT_EQ(torch::autograd::grad({o.sum()}, {q})[0].scalar_type(), type);
    Tensor past = state.clone();
    const auto token = [](const Tensor& x) { return x.slice(2, 0, 1); };
    EXPECT_EQ(step(token(q), token(k), token(v), past).scalar_type(), type);
  }
}

TEST(Options, ReachTheCore) {
  torch::manual_seed(14);
  const Tensor q = normal({1, 2, 40, 6}), k = normal({1, 2, 40, 6}), v = normal({1, 2, 40, 6});
  const Tensor o = attention(q, k, v);
  const auto differs = [&](const AttentionOptions& options) {
    return !torch::allclose(attention(q, k, v, {}, options), o);
  };
  EXPECT_FALSE(differs({.floor = "error", .chunk = 64}));
  EXPECT_FALSE(differs({.coefficients = std::vector<double>{1, 1, 0.5}}));
  EXPECT_FALSE(differs({.dropout_p = 0, .seed = 5}));
  EXPECT_TRUE(differs({.coefficients = std::vector<double>{1, 1, 1}}));
  EXPECT_TRUE(differs({.normalize = "l2"}));
  EXPECT_TRUE(differs({.normalize = "none"}));
  EXPECT_TRUE(differs({.normalize = "max_norm"}));
  for (const char* mode : {"quadratic", "standard", "token"}) {
    const auto dropped = [&](std::int64_t seed) {
      return attention(q, k, v, {}, {.dropout_p = 0.3, .dropout = mode, .seed = seed});
    };
    EXPECT_FALSE(torch::allclose(dropped(1), o)) << mode;
    EXPECT_TRUE(torch::equal(dropped(1), dropped(1))) << mode;
    EXPECT_FALSE(torch::allclose(dropped(1), dropped(2))) << mode;
  }
}

TEST(Options, DropoutHasTheGradientOfItsMask) {
  torch::manual_seed(15);
  const Tensor q = normal({1, 2, 9, 4}), k = normal({1, 2, 9, 4}),
               v = normal({1, 2, 9, 4}).requires_grad_();
  const AttentionOptions options{.causal = true, .dropout_p = 0.4, .seed = 3};
  const Tensor d_o = normal({1, 2, 9, 4}), direction = normal({1, 2, 9, 4});
  const Tensor gradient = torch::autograd::grad({attention(q, k, v, {}, options)}, {v}, {d_o})[0];
  const Tensor moved = attention(q, k, v + direction, {}, options),
               here = attention(q, k, v, {}, options);  // o is linear in v
  EXPECT_NEAR((gradient * direction).sum().item<double>(),
              ((moved - here) * d_o).sum().item<double>(), 1e-11);
}

TEST(Errors, NameTheArgumentTheRuleAndTheValue) {
  const Tensor q = torch::zeros({2, 4, 5, 8});
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const fastmax::Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto with = [&](const AttentionOptions& options) {
    return message([&] { attention(q, q, q, {}, options); });
  };
  EXPECT_EQ(message([&] { attention(q[0], q, q); }),
            "fastmax: need q of 4 dimensions [B, H, N, D], got 3");
  EXPECT_EQ(message([&] { attention(q.to(at::kInt), q, q); }),
            "fastmax: need q of float32, float64, bfloat16 or float16, got Int");
  EXPECT_EQ(message([&] { attention(q, q.to(at::kDouble), q); }),
            "fastmax: need k of dtype Float, got Double");
  EXPECT_EQ(message([&] {
              attention(q, q, q, torch::ones({2, 5}, at::kBool));
            }),
            "fastmax: need key_weight of dtype Float, got Bool");
  EXPECT_EQ(message([&] {
              attention(q, q, q, torch::ones({2, 1, 1, 5}));
            }),
            "fastmax: need key_weight of 2 dimensions [B, M], got 4");
  EXPECT_EQ(with({.p = 5}), "fastmax: need p in 1..4, got 5");
  EXPECT_EQ(with({.method = "fast"}),
            "fastmax: need method 'auto', 'direct' or 'factorised', got 'fast'");
  EXPECT_EQ(with({.normalize = "softmax"}),
            "fastmax: need normalize 'standardize', 'l2', 'none' or 'max_norm', got 'softmax'");
  EXPECT_EQ(with({.coefficients = std::vector<double>{1, 1}}),
            "fastmax: need coefficients c_0 .. c_p, p + 1 = 3 of them, got 2");
  EXPECT_EQ(with({.dropout_p = 1}), "fastmax: need 0 <= dropout.rate < 1, got 1");
  EXPECT_EQ(message([&] {
              attention_with_state(q, q, q, {}, torch::zeros({2, 4, 44, 9}));
            }),
            "fastmax: need initial_state.F == C(D + p, p) = 45, got 44");
  EXPECT_EQ(message([&] {
              Tensor state = torch::zeros({2, 4, 45, 9});
              step(q, q, q, state);
            }),
            "fastmax: need one token (q.N == k.N == 1), got 5 and 5");
  // The rest is the core's to find; its line arrives as it is.
  EXPECT_EQ(message([&] { attention(q, q.slice(3, 0, 4), q); }),
            "fastmax: need k.D == q.D, got 4 and 8");
}

TEST(Errors, ASecondGradientIsRefusedNotWrong) {
  const Tensor q = normal({1, 1, 3, 4}).requires_grad_();
  const Tensor loss = attention(q, q, q).sum();
  EXPECT_THROW(torch::autograd::grad({loss}, {q}, {}, true, true), c10::NotImplementedError);
}

}  // namespace
