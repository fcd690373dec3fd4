// A recipe says everything about a training run: task, model, optimiser, data. It is a TOML file
// with the keys below; `--set model.layers=4` changes one; the run directory keeps the resolved
// whole, which is a recipe again.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fastmax::app {

/// A double, and so every reader of JSON, tells whole numbers apart up to here and a little further, 2^53.
inline constexpr std::int64_t kLargestSeed = 9'007'000'000'000'000;

struct Recipe {
  std::string task;       ///< one of task_names()
  std::int64_t seed = 1;  ///< weights, data order, dropout

  struct ModelKeys {
    std::string attention = "fastmax2";
    std::int64_t p = 0;  ///< only to be read: attention = "fastmax" and p = 3 become "fastmax3"
    std::int64_t layers = 2, heads = 2, dim = 64, mlp = 128;
    double dropout = 0;  ///< after the embedding, attention and MLP, and inside the MLP
    /// Standard deviation of the embeddings of tokens and positions in the beginning. What attention and MLP add has about 1,
    /// much of it the same for every token; beside it small embeddings are lost, and a classifier sees sequences that look alike.
    double embedding_std = 0.02;
    /// Of the score: "default", "1/sqrt(D)", "1/D" or a number. By a word, Fastmax of odd order takes at most the scale up
    /// to which no weight can be negative.
    std::string scale = "default";
    bool scale_learnable = false;           ///< times a learnt factor per head
    std::string normalize = "standardize";  ///< "standardize", "l2", "none", "max_norm": Fastmax's
    double attention_dropout = 0;           ///< Fastmax drops by the mode, softmax its weights
    std::string attention_dropout_mode = "quadratic";  ///< "quadratic", "standard" or "token"
    std::int64_t convolution = 0;       ///< width of the convolution before q, k and v; 0: none
    std::string positions = "learned";  ///< "learned", "sinusoidal", "rotary" or "none"
    std::string block = "usual";        ///< or "authors": that of the paper's authors (model.h)
    /// Of classifiers: "tokens", the mean over real ones; "padded", their sum over data.length; or "class", a learnt token in
    /// front, which one layer classifies.
    std::string pool = "tokens";
    /// Of classifiers that pool: "relu" or "gelu", the activation of the layer behind the mean. A mean of many tokens hardly
    /// differs from sequence to sequence while nothing is learnt, and a unit of relu that stands at 0 for all of them stays there.
    std::string classifier = "relu";
  } model;

  struct TrainKeys {
    std::int64_t steps = 1000, batch = 32;
    double learning_rate = 1e-3;
    std::int64_t warmup = 100;  ///< steps of linear rise ...
    double warmup_from = 0;     ///< ... from this fraction of learning_rate
    double decay_to = 0.1;      ///< linear fall to this fraction of it at the last step
    double beta1 = 0.9;
    double beta1_peak =
        0;  ///< beta1 where the learning rate is highest, in straight lines; 0: the same
    double beta2 = 0.98, epsilon = 1e-8, weight_decay = 0.01;
    double clip = 1;              ///< largest gradient norm; 0: no limit
    double clip_value = 0;        ///< largest gradient entry; 0: no limit
    bool group_by_length = true;  ///< listops, text: batches of similar lengths
    double best_from = 0;       ///< the best weights are of steps after this fraction, 1: the last
    double until_accuracy = 0;  ///< ends with the evaluation that reaches this fraction; 0: never
    std::int64_t evaluate_every = 100;   ///< 0: at the end only
    std::int64_t evaluate_examples = 0;  ///< of the validation part, during training; 0: all
    std::int64_t log_every = 10;
    double checkpoint_seconds = 30;  ///< work that a sudden death can cost
    std::int64_t threads = 0;        ///< 0: all cores
  } train;

  struct DataKeys {
    std::string path;  ///< textfile: the file; else the folder, "" for the data folder's own
    /// listops: "lra" (501-1999 tokens) or "short" (9-64); pathfinder: "hard", "inter" or "easy". "": the Arena's.
    std::string variant;
    std::int64_t length = 0;  ///< tokens a sequence; 0: what suits the task
    /// mqar, needle: tokens of the first sequences that are trained on, in batches of as many tokens; 0: `length`
    std::int64_t length_from = 0;
    std::int64_t cut = 0;  ///< text, retrieval: bytes that are read of each; 0: data.length
    std::int64_t
        pairs = 0,
        keys = 0;  ///< mqar: keys with a value in a sequence, and different keys; 0: 8 and 128
    std::int64_t patch = 1;         ///< images: a token is a square of so many pixels each way
    bool mask_zero_pixels = false;  ///< images: black pixels get no weight, as if padding

    std::int64_t longest() const { return cut > 0 ? cut : length; }
  } data;
};

/// Reads FILE, then applies each "key.path=value". Throws UsageError naming key, file and line,
/// what was expected and what came.
Recipe read_recipe(const std::string& file, const std::vector<std::string>& settings = {});

/// The same from TOML text; `name` stands for the file in messages.
Recipe parse_recipe(const std::string& toml, const std::string& name,
                    const std::vector<std::string>& settings = {});

/// TOML that parse_recipe reads back to the same recipe.
std::string write_recipe(const Recipe& recipe);

/// The first key whose value differs: "train.steps is 500 there and 1000 here".
std::optional<std::string> first_difference(const Recipe& there, const Recipe& here);

}  // namespace fastmax::app
