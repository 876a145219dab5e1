// What the bindings ask of the flavour they are built for.
#pragma once
#include <string>

namespace kdl {

int device_count();                       // throws DeviceError with the driver's reason where there is none
std::string compute_capability(int device);  // "9.0"

}  // namespace kdl
