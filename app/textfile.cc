#include "app/textfile.h"

#include <algorithm>

#include "app/error.h"
#include "app/files.h"
#include "app/random.h"

namespace fastmax::app {
namespace {

std::filesystem::path file_of(const Recipe& recipe) {
  if (recipe.task == "shakespeare") return require_data(recipe) / "input.txt";
  return recipe.data.path;
}

class Textfile : public Task {
 public:
  explicit Textfile(const Recipe& recipe)
      : seed_(static_cast<std::uint64_t>(recipe.seed)),
        batch_(recipe.train.batch),
        length_(recipe.data.length),
        bytes_(read_file(file_of(recipe), "a text file")),
        split_(static_cast<std::int64_t>(bytes_.size()) * 9 / 10) {
    if (val_windows() < 1 || split_ <= length_) {
      throw UsageError(text("data.path: expected a file of more than ", 10 * (length_ + 1),
                            " bytes for data.length = ", length_, ", ", file_of(recipe).string(),
                            " has ", bytes_.size()));
    }
  }

  Batch train_batch(std::int64_t step) override {
    Random random(seed_, static_cast<std::uint64_t>(step));
    std::vector<std::int64_t> starts(batch_);
    for (std::int64_t& start : starts) {
      start = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(split_ - length_)));
    }
    return windows(starts);
  }

  std::int64_t examples(Split, std::int64_t limit) const override {
    return limit > 0 ? std::min(limit, val_windows()) : val_windows();
  }

  // Windows side by side; fewer of them are spread evenly.
  std::vector<Batch> evaluation(Split split, std::int64_t limit) const override {
    const std::int64_t count = examples(split, limit);
    std::vector<Batch> batches;
    for (std::int64_t first = 0; first < count; first += batch_) {
      std::vector<std::int64_t> starts;
      for (std::int64_t i = first; i < std::min(first + batch_, count); ++i) {
        starts.push_back(split_ + i * val_windows() / count * length_);
      }
      batches.push_back(windows(starts));
    }
    return batches;
  }

 private:
  // A window of length tokens and, one to the right, their targets.
  std::int64_t val_windows() const {
    return (static_cast<std::int64_t>(bytes_.size()) - split_ - 1) / length_;
  }

  Batch windows(const std::vector<std::int64_t>& starts) const {
    Batch batch{.B = static_cast<std::int64_t>(starts.size()), .N = length_};
    for (const std::int64_t start : starts) {
      const auto at = [&](std::int64_t i) { return static_cast<unsigned char>(bytes_[start + i]); };
      for (std::int64_t n = 0; n < length_; ++n) {
        batch.tokens.push_back(at(n));
        batch.targets.push_back(at(n + 1));
      }
    }
    batch.lengths.assign(starts.size(), length_);
    return batch;
  }

  std::uint64_t seed_;
  std::int64_t batch_, length_;
  std::string bytes_;
  std::int64_t split_;  // where validation begins
};

}  // namespace

std::unique_ptr<Task> load_textfile(const Recipe& recipe) {
  return std::make_unique<Textfile>(recipe);
}

}  // namespace fastmax::app
