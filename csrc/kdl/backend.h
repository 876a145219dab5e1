// What the bindings ask of the flavour they are built for.
#pragma once
#include <string>

#include "kdl/export.h"

namespace kdl {

void run(const Export& op, Value* values);   // calls the launcher, in the flavour's own memory
int device_count();                          // throws DeviceError with the driver's reason where there is none
std::string compute_capability(int device);  // "9.0"

// How the simt flavours schedule threads, and what they count; other flavours have no options and no counters.
void set_option(const std::string& name, int64_t value);
int64_t counter(const std::string& name);

}  // namespace kdl
