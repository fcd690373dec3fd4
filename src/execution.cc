#include "fastmax/execution.h"

#include <cstdlib>
#include <new>

namespace fastmax {

void Workspace::Free::operator()(std::byte* p) const { std::free(p); }

std::span<std::byte> Workspace::reserve(std::size_t bytes) {
  if (bytes > size_) {
    constexpr std::size_t kPage =
        4096;  // page-aligned, so that panels start at the same place in a page
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    data_.reset();  // before the new one exists: both together may not fit
    size_ = 0;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, rounded)));
    if (!data_) throw std::bad_alloc();
    size_ = rounded;
  }
  return {data_.get(), size_};
}

Execution serial(Workspace* workspace) {
  return {.threads = 1,
          .run =
              [](int n, const std::function<void(int)>& task) {
                for (int i = 0; i < n; ++i) task(i);
              },
          .workspace = workspace};
}

}  // namespace fastmax
