// A thread that neither ends nor waits would hang the process: while a watchdog exists, a signal looks every few seconds of processor time
// whether another thread was chosen to run since the last one, and reports the loop if not.
#pragma once
#include <signal.h>

namespace simt {

class Watchdog {
 public:
  Watchdog();
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;

 private:
  struct sigaction previous_;
};

}  // namespace simt
