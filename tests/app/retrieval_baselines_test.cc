// Shortcuts through retrieval, on papers where it is known which of them works.
#include "app/retrieval_baselines.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fastmax::app {
namespace {

using Known = std::vector<std::pair<std::string, double>>;

TEST(RetrievalBaselines, SharedWordsDecideWhereCitingPapersShareThem) {
  Papers papers;
  papers.documents = {"Trees, and parsing", "parsing trees", "speech AND noise", "noise speech"};
  papers.parts[0] = {{0, 1, 1}, {2, 3, 1}, {0, 3, 0}, {2, 1, 0}};
  papers.parts[2] = {{1, 0, 1}, {3, 2, 1}, {1, 2, 0}, {3, 0, 0}, {1, 3, 0}};
  // Papers 1 and 3 are cited once each, and the test pairs end in 0 and 2, and once in 3: "at least 0" is all that is left.
  EXPECT_EQ(retrieval_baselines(papers),
            (Known{{"majority class", 0.6}, {"cited often", 0.4}, {"shared words", 1.0}}));
}

TEST(RetrievalBaselines, CitationsOfOtherPairsDecideWhereOnePaperIsCitedByAll) {
  Papers papers;
  papers.documents = {"a", "b", "c", "d", "famous", "unknown"};
  papers.parts[0] = {{0, 4, 1}, {1, 4, 1}, {2, 4, 1}, {0, 5, 0}, {1, 5, 0}, {2, 3, 1}};
  papers.parts[2] = {{3, 4, 1}, {3, 5, 0}};
  // The pair (2, 3) does not see its own citation: at t = 2 five of six training pairs are right, at any other fewer.
  EXPECT_EQ(retrieval_baselines(papers),
            (Known{{"majority class", 0.5}, {"cited often", 1.0}, {"shared words", 0.5}}));
}

}  // namespace
}  // namespace fastmax::app
