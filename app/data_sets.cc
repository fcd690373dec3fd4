#include "app/data_sets.h"

#include "app/retrieval_task.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kMega = 1'000'000;

std::string after(const std::string& name, const std::string& folder) {
  const std::size_t at = name.find(folder);
  return at == std::string::npos ? "" : name.substr(at);
}

// Sums as TensorFlow Datasets and torchvision (there as MD5 of the same files) know them.
DataSet cifar10() {
  DataSet set{
      .task = "image",
      .title = "CIFAR-10 (Krizhevsky 2009)",
      .files = {{"cifar-10-binary.tar.gz",
                 "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                 "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170'052'171}},
      .limits = {.bytes = 200 * kMega, .entries = 16},
      .place = [](const std::string& name) { return after(name, "cifar-10-batches-bin/"); },
      .required = {}};
  for (const char* part : {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4",
                           "data_batch_5", "test_batch"}) {
    set.required.push_back({"cifar-10-batches-bin/" + std::string(part) + ".bin", 30'730'000});
  }
  return set;
}

DataSet mnist() {
  const std::string at = "https://storage.googleapis.com/cvdf-datasets/mnist/";
  DataSet set{
      .task = "mnist",
      .title = "MNIST (LeCun, Cortes, Burges 1998)",
      .files = {{"train-images-idx3-ubyte.gz", "",
                 "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9'912'422},
                {"train-labels-idx1-ubyte.gz", "",
                 "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28'881},
                {"t10k-images-idx3-ubyte.gz", "",
                 "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1'648'877},
                {"t10k-labels-idx1-ubyte.gz", "",
                 "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4'542}},
      .limits = {.bytes = 60 * kMega, .entries = 4},
      .place = [](const std::string& name) { return name.substr(0, name.rfind(".gz")); },
      .required = {}};
  const std::int64_t sizes[] = {16 + 60'000 * 784, 8 + 60'000, 16 + 10'000 * 784, 8 + 10'000};
  for (std::size_t i = 0; i < set.files.size(); ++i) {
    SourceFile& file = set.files[i];
    file.address = at + file.name;
    set.required.push_back({set.place(file.name), sizes[i]});
  }
  return set;
}

DataSet imdb() {
  return {
      .task = "text",
      .title = "IMDB reviews (Maas et al. 2011)",
      .files = {{"aclImdb_v1.tar.gz",
                 "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                 "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe", 84'125'825}},
      .limits = {.bytes = 500 * kMega, .entries = 50'000},
      // Reviews with a rating: neither those without (unsup) nor the bags of words.
      .place = [](const std::string& name) -> std::string {
        const std::string inside = after(name, "aclImdb/");
        for (const char* part : {"train/neg/", "train/pos/", "test/neg/", "test/pos/"}) {
          if (inside.rfind("aclImdb/" + std::string(part), 0) == 0) return inside;
        }
        return "";
      },
      .required = {{"aclImdb/train/neg", 12'500},
                   {"aclImdb/train/pos", 12'500},
                   {"aclImdb/test/neg", 12'500},
                   {"aclImdb/test/pos", 12'500}}};
}

DataSet shakespeare() {
  return {
      .task = "shakespeare",
      .title = "plays of Shakespeare (Karpathy 2015)",
      .files = {{"input.txt",
                 "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                 "tinyshakespeare/input.txt",
                 "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", 1'115'394}},
      .limits = {.bytes = 3 * kMega, .entries = 1},
      .place = {},  // as it is
      .required = {{"input.txt", 1'115'394}}};
}

// The archive holds all tasks of the Arena; only the pairs of papers are kept.
DataSet papers() {
  return {
      .task = "retrieval",
      .title = "pairs of ACL papers (Radev et al. 2013; Tay et al. 2021)",
      .files = {{"lra_release.gz", "https://storage.googleapis.com/long-range-arena/lra_release.gz",
                 "", 7'700 * kMega}},
      .limits = {.bytes = 80'000 * kMega, .entries = 3},
      .place =
          [](const std::string& name) {
            const std::string inside = after(name, "tsv_data/new_aan_pairs.");
            return inside.empty() ? "" : inside.substr(inside.find('/') + 1);
          },
      .required = {{"new_aan_pairs.train.tsv"},
                   {"new_aan_pairs.eval.tsv"},
                   {"new_aan_pairs.test.tsv"}},
      .data_name = fetched_papers_name};
}

}  // namespace

std::int64_t size_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path))
    return static_cast<std::int64_t>(std::filesystem::file_size(path));
  return std::distance(std::filesystem::directory_iterator(path),
                       std::filesystem::directory_iterator());
}

const std::vector<DataSet>& data_sets() {
  static const std::vector<DataSet> sets = {imdb(), papers(), cifar10(), mnist(), shakespeare()};
  return sets;
}

const DataSet* find_data_set(const std::string& task) {
  for (const DataSet& set : data_sets()) {
    if (set.task == task) return &set;
  }
  return nullptr;
}

}  // namespace fastmax::app
