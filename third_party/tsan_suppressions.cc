// What ThreadSanitizer is not to report, each with the library and the reason. Linked into the tests that need it.

#if defined(__SANITIZE_THREAD__)

extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() {
  return
      // libnats (nats.c 3.4.1) reads a TLS connection on one thread while it writes it on others. OpenSSL does not
      // promise that this works; it touches what both use when one side ends the connection: then the reading thread
      // makes an alert in the buffer from which another may be sending. The connection is lost at that moment anyway.
      "race:libssl.so.3\n"
      "race:libcrypto.so.3\n"
      // libabsl counts the references to the text of a Status in code of its own, which the distribution has built
      // without instrumentation: that the last one waits for the others before it deletes the text is not seen.
      "race:absl::*::Status::Unref\n";
}

#endif
