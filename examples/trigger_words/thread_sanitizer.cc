// What ThreadSanitizer must be told about a process whose libraries are the distribution's, which are not built for it:
// it does not see how they synchronize, and takes the following for races. Everything that these libraries call of ours
// is still checked.

#if defined(__SANITIZE_THREAD__)

// The first: httplib's own calls of memcpy and the like, on its static tables. The second: the last of several threads
// to drop a Status deletes it; the others may have counted down inside the library.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libcpp-httplib.so\n"
         "race:^absl::*::Status::Unref\n";
}

// Without its wait of a second at the end: the process has to end within two.
extern "C" const char* __tsan_default_options() { return "atexit_sleep_ms=0"; }

#endif
