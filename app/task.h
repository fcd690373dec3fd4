// A task: what goes into a model and what should come out. Batches are pure functions of seed and
// step, so a run that goes on after an interruption needs no memory of its data order.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/recipe.h"

namespace fastmax::app {

/// A target that does not count: what torch's cross entropy ignores.
inline constexpr std::int64_t kNotAsked = -100;

/// Sequences padded to the longest of them.
struct Batch {
  std::int64_t B = 0, N = 0;
  std::vector<std::int64_t> tokens = {};  ///< [B][N]; 0 after the end of a sequence
  std::vector<float> values =
      {};  ///< [B][N][values of a token], in place of tokens: patches of images
  std::vector<std::int64_t> lengths = {};  ///< [B] tokens that are real
  std::vector<std::int64_t> targets =
      {};  ///< [B] answers, [B / 2] of pairs, or [B][N] of a causal model: next tokens, or kNotAsked
  bool mask_zero = false;  ///< a token 0 counts as padding wherever it stands
};

enum class Split { kTrain, kVal, kTest };
/// "val" or "test". Throws UsageError for another name.
Split parse_split(const std::string& name);

/// `count` of `all` examples in even steps: of a part that is sorted by label, some of each.
std::vector<std::int64_t> evenly(std::int64_t count, std::int64_t all);

class Task {
 public:
  virtual ~Task() = default;
  /// The batch of training step `step`, 0, 1, ...
  virtual Batch train_batch(std::int64_t step) = 0;
  /// Examples of an evaluation; `limit` > 0 takes that many of them.
  virtual std::int64_t examples(Split split, std::int64_t limit) const = 0;
  /// These examples in batches, with little padding, always the same ones.
  virtual std::vector<Batch> evaluation(Split split, std::int64_t limit) const = 0;
  /// Accuracies that need no model, by name, on the test part: what a result must beat.
  virtual std::vector<std::pair<std::string, double>> baselines() const { return {}; }
  /// What results must say of the data; "": the task's name says it.
  virtual std::string data_name() const { return ""; }
};

/// What a model needs to know of a recipe's task, without its data.
struct TaskShape {
  std::int64_t vocabulary = 0;  ///< token ids are 0 .. vocabulary - 1
  std::int64_t classes = 0;     ///< 0: a causal model over the vocabulary
  std::int64_t values = 0;      ///< numbers a token, where tokens are no ids
  bool pairs = false;           ///< an answer is about two sequences
};
TaskShape task_shape(const Recipe& recipe);

/// Where the recipe's data is: data.path, else the task's place in the data folder.
std::filesystem::path recipe_folder(const Recipe& recipe);
/// The task's place in a data folder; of listops and pathfinder, the variant's.
std::filesystem::path task_folder(const std::filesystem::path& data_folder, const Recipe& recipe);
/// recipe_folder(), which must be there: of a task whose data is downloaded.
std::filesystem::path require_data(const Recipe& recipe);

/// Loads the recipe's data. Throws UsageError when it is missing or damaged.
std::unique_ptr<Task> load_task(const Recipe& recipe);

}  // namespace fastmax::app
