// What can be known of a pair of papers without reading them: shortcuts that an accuracy at retrieval must beat.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "app/retrieval_task.h"

namespace fastmax::app {

/// Accuracies on the test pairs of three rules. "majority class"; "cited often": the second paper is cited by at least t
/// other training pairs; "shared words": |A and B| / |A or B| of the two papers' words (letters and digits, without case,
/// of the bytes that were read) is at least t. Each t is the best one on the training pairs, of which the words of at
/// most 10,000 are compared.
std::vector<std::pair<std::string, double>> retrieval_baselines(const Papers& papers);

}  // namespace fastmax::app
