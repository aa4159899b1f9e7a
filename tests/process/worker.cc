// A copy of a plugin under the command of a test: see session.h.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "tests/process/session.h"

ABSL_FLAG(std::string, store, "", "URL of the store");
ABSL_FLAG(std::string, events, "", "URL of what carries the events; empty: the store's own");
ABSL_FLAG(std::string, plugin, "process-test", "plugin id");
ABSL_FLAG(std::string, instance, "worker", "label of this copy");
ABSL_FLAG(absl::Duration, ttl, absl::Seconds(10), "how long after its last beat this copy may be replaced");
ABSL_FLAG(absl::Duration, call_timeout, absl::Seconds(2), "how long one call of the store may take");
ABSL_FLAG(absl::Duration, max_ttl, absl::ZeroDuration(), "the deployment's longest ttl; zero: a minute, or ttl");
ABSL_FLAG(bool, accept_weaker, false, "join over a store that cannot carry every promise");
ABSL_FLAG(int32_t, parent, 0, "the process that started this one, and that it must not outlive");

#if defined(__SANITIZE_THREAD__)
// The distribution's abseil is not instrumented, so that the sanitizer does not see how the last of two threads that
// share a Status comes to free it.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:absl::*::Status::Unref\n"; }
#endif

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have ended before.
  if (absl::GetFlag(FLAGS_parent) != 0 && getppid() != absl::GetFlag(FLAGS_parent)) return 1;
  // Tests limit the size of files: writes are to fail then, with EFBIG.
  signal(SIGXFSZ, SIG_IGN);
  process_test::Session session({absl::GetFlag(FLAGS_store), absl::GetFlag(FLAGS_events), absl::GetFlag(FLAGS_plugin),
                                 absl::GetFlag(FLAGS_instance), absl::GetFlag(FLAGS_ttl),
                                 absl::GetFlag(FLAGS_call_timeout), absl::GetFlag(FLAGS_max_ttl),
                                 absl::GetFlag(FLAGS_accept_weaker)});
  process_test::AddGrantCommands(session);
  process_test::AddCellCommands(session);
  process_test::AddCopiesCommands(session);
  process_test::AddEventCommands(session);
  process_test::AddElectionCommands(session);
  process_test::AddFaultCommands(session);
  process_test::AddLoadCommands(session);
  process_test::AddWaitCommands(session);
  session.Run();
  return 0;
}
