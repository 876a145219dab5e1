#include "simt/watchdog.h"

#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/state.h"

namespace simt {
namespace {

uint64_t seen_steps;
pthread_t launching_thread;

void set_timer(int seconds) {
  const itimerval interval{{seconds, 0}, {seconds, 0}};
  setitimer(ITIMER_VIRTUAL, &interval, nullptr);
}

void look(int signal, siginfo_t*, void* context) {
  if (!pthread_equal(pthread_self(), launching_thread)) {
    pthread_kill(launching_thread, signal);
    return;
  }
  if (!current) return;
  if (seen_steps != steps) {
    seen_steps = steps;
    return;
  }
  const auto at = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  fail(kdl::join("a loop that neither ends nor lets other threads run, at ", source_line(reinterpret_cast<const void*>(at))));
}

}  // namespace

Watchdog::Watchdog() {
  launching_thread = pthread_self();
  seen_steps = ~uint64_t{0};
  struct sigaction action {};
  action.sa_sigaction = look;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;  // a report leaves the handler without returning
  sigaction(SIGVTALRM, &action, &previous_);
  set_timer(options.patience);
}

Watchdog::~Watchdog() {
  set_timer(0);
  sigaction(SIGVTALRM, &previous_, nullptr);
}

}  // namespace simt
