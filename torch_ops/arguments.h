// An operator's arguments as the dispatcher hands them over: a stack of values, each taken once, in the order of the
// schema, and results put back in their place. TORCH_BOX does the same for one fixed list of parameters; taken by hand,
// operators share their list of options, and no word is left on the heap.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstddef>
#include <string>

namespace fastmax::torch_ops {

class Arguments {
 public:
  explicit Arguments(StableIValue* stack) : next_(stack) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }
  std::string take_word() {
    const auto handle = take<StringHandle>();
    std::size_t length = 0;
    const char* data = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &data));
    std::string word(data, length);
    STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return word;
  }

 private:
  StableIValue* next_;
};

template <class... Results>
void put(StableIValue* stack, const Results&... results) {
  ((*stack++ = torch::stable::detail::from(results)), ...);
}

}  // namespace fastmax::torch_ops
