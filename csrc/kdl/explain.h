// What launchers decide, said and steered from outside: kdl.explain listens, tests and measurements force a tile. Plain C++.
#pragma once
#include <string>

#include "kdl/error.h"

namespace kdl {

// While a call of this thread is explained, the text so far; else nullptr. Nothing is launched while it is explained.
inline std::string*& explanation() {
  static thread_local std::string* text = nullptr;
  return text;
}

template <class... Parts> void tell(const Parts&... parts) {
  if (explanation()) *explanation() += join(parts...);
}

// The row of a tile table that calls must take, by its name, and the number of splits of k; where they are empty and 0 the chooser chooses.
struct ForcedTile {
  std::string row;
  int splits = 0;
};
inline ForcedTile& forced_tile() {
  static ForcedTile forced;
  return forced;
}

}  // namespace kdl
