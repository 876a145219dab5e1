// A type as a value: what dispatch hands to a generic lambda, and what keeps a parameter out of template deduction.
#pragma once

namespace kdl {

template <class T> struct Type {
  using type = T;
};

}  // namespace kdl
