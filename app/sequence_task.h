// Classification of token sequences: batches of similar length, an epoch at a time.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "app/examples.h"
#include "app/task.h"

namespace fastmax::app {

using Accuracies = std::vector<std::pair<std::string, double>>;

/// What becomes of the bytes of an example.
struct TokenForm {
  std::int64_t first = 0;  ///< byte b is token b + first; with 1, token 0 is left for padding
  bool mask_zero = false;  ///< a token 0 is padding wherever it stands
  std::int64_t side = 0;   ///< of an image; patches want it
  std::int64_t patch = 1;  ///< > 1: tokens are squares of patch x patch pixels, from 0 to 1
};

class SequenceTask : public Task {
 public:
  SequenceTask(const Recipe& recipe, Parts parts, TokenForm form, Accuracies baselines);

  Batch train_batch(std::int64_t step) override;
  std::int64_t examples(Split split, std::int64_t limit) const override;
  std::vector<Batch> evaluation(Split split, std::int64_t limit) const override;
  std::vector<std::pair<std::string, double>> baselines() const override { return baselines_; }

 private:
  const Examples& part(Split split) const;
  void order_epoch(std::int64_t epoch);
  Batch collect(const Examples& examples, std::span<const std::int64_t> which) const;
  Batch patches(const Examples& examples, std::span<const std::int64_t> which) const;

  std::uint64_t seed_;
  std::int64_t batch_;
  bool group_by_length_;
  Parts parts_;
  TokenForm form_;
  Accuracies baselines_;
  std::int64_t epoch_ = -1;  // the one that order_ and first_of_batch_ are for
  std::vector<std::int64_t> order_, first_of_batch_;
};

/// Throws UsageError when a part has too few examples for the recipe; `from` says where they are.
void require_examples(const Parts& parts, const Recipe& recipe, const std::filesystem::path& from);

/// The accuracy of the commonest training label on the test part.
double majority(const Parts& parts);

}  // namespace fastmax::app
