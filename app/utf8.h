// Bytes that may be anything, made printable: what is not UTF-8 becomes U+FFFD.
#pragma once
#include <cstddef>
#include <string>

namespace fastmax::app {

class Utf8Filter {
 public:
  /// The characters that this byte completes; a byte that cannot go on the one before it shows that one as
  /// U+FFFD.
  std::string feed(char byte);
  /// What is still incomplete, as U+FFFD.
  std::string finish();

 private:
  std::string pending_;     // the beginning of a character
  std::size_t length_ = 0;  // bytes it will have
};

}  // namespace fastmax::app
