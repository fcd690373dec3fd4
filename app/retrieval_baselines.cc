#include "app/retrieval_baselines.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace fastmax::app {
namespace {

using Pairs = std::vector<Papers::Pair>;

double accuracy_of_majority(const Pairs& pairs) {
  const auto yes = std::count_if(pairs.begin(), pairs.end(), [](auto& p) { return p.cites; });
  const double share = static_cast<double>(yes) / static_cast<double>(pairs.size());
  return std::max(share, 1 - share);
}

/// Accuracy on `measure` of "score >= t", with the t that is right most often on `learn`.
double accuracy_of_threshold(const Pairs& learn,
                             const std::function<double(const Papers::Pair&)>& learn_score,
                             const Pairs& measure,
                             const std::function<double(const Papers::Pair&)>& score) {
  std::vector<std::pair<double, bool>> seen;
  for (const auto& pair : learn) seen.emplace_back(learn_score(pair), pair.cites);
  std::sort(seen.begin(), seen.end());
  // Right answers of the threshold seen[i].first: the positives from i on and the negatives before it.
  auto right = std::count_if(seen.begin(), seen.end(), [](auto& s) { return s.second; });
  auto best = right;
  double threshold = seen.front().first;
  for (std::size_t i = 1; i < seen.size(); ++i) {
    right += seen[i - 1].second ? -1 : 1;
    if (right > best && seen[i].first > seen[i - 1].first) {
      best = right;
      threshold = seen[i].first;
    }
  }
  const auto correct = std::count_if(measure.begin(), measure.end(), [&](auto& pair) {
    return (score(pair) >= threshold) == static_cast<bool>(pair.cites);
  });
  return static_cast<double>(correct) / static_cast<double>(measure.size());
}

/// Hashes of the words of a text, each once, in order.
std::vector<std::size_t> words(std::string_view text) {
  std::vector<std::size_t> found;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) found.push_back(std::hash<std::string>{}(word));
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) {
      word += static_cast<char>(std::tolower(byte));
    } else {
      end_word();
    }
  }
  end_word();
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

double shared(const std::vector<std::size_t>& a, const std::vector<std::size_t>& b) {
  std::size_t both = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    both += *i == *j;
    const bool step_i = *i <= *j, step_j = *j <= *i;
    i += step_i;
    j += step_j;
  }
  const std::size_t either = a.size() + b.size() - both;
  return either ? static_cast<double>(both) / static_cast<double>(either) : 0;
}

}  // namespace

std::vector<std::pair<std::string, double>> retrieval_baselines(const Papers& papers) {
  const Pairs &learn = papers.parts[0], &measure = papers.parts[2];
  std::vector<int> cited(papers.documents.size());
  for (const auto& pair : learn) cited[pair.two] += pair.cites;

  std::vector<std::vector<std::size_t>> of_document;
  for (const auto& document : papers.documents) of_document.push_back(words(document));
  const auto overlap = [&](const Papers::Pair& pair) {
    return shared(of_document[pair.one], of_document[pair.two]);
  };
  constexpr std::size_t kCompared = 10'000;
  Pairs compared;
  for (const std::int64_t i : evenly(static_cast<std::int64_t>(std::min(kCompared, learn.size())),
                                     static_cast<std::int64_t>(learn.size())))
    compared.push_back(learn[i]);

  // A training pair's own citation must not count towards its score.
  return {{"majority class", accuracy_of_majority(measure)},
          {"cited often", accuracy_of_threshold(
                              learn, [&](const auto& pair) { return cited[pair.two] - pair.cites; },
                              measure, [&](const auto& pair) { return cited[pair.two]; })},
          {"shared words", accuracy_of_threshold(compared, overlap, measure, overlap)}};
}

}  // namespace fastmax::app
