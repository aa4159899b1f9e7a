#include "kv/internal/nats_errors.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace kv::internal {

absl::Status FromNats(natsStatus status, std::string_view what) {
  const std::string subject(what);
  switch (status) {
    case NATS_OK:
      return absl::OkStatus();

    // With a reconnect buffer of no bytes this is what a publish without a connection comes to.
    case NATS_INSUFFICIENT_BUFFER:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_NOT_YET_CONNECTED:
    case NATS_NO_SERVER:
      return absl::UnavailableError(absl::StrCat(subject, ": there is no connection to a NATS server; not sent"));
    case NATS_CONNECTION_CLOSED:
    case NATS_DRAINING:
    case NATS_INVALID_SUBSCRIPTION:
      return absl::UnavailableError(absl::StrCat(subject, ": the NATS connection is closed; not sent"));
    case NATS_NO_RESPONDERS:
      return absl::UnavailableError(absl::StrCat(subject, ": nobody listens on this subject"));

    case NATS_MAX_PAYLOAD:
      return absl::InvalidArgumentError(absl::StrCat(subject, ": the message is larger than the NATS server takes"));
    case NATS_INVALID_SUBJECT:
    case NATS_INVALID_ARG:
    case NATS_INVALID_TIMEOUT:
      return absl::InvalidArgumentError(absl::StrCat(subject, ": ", natsStatus_GetText(status)));
    case NATS_NOT_PERMITTED:
      return absl::PermissionDeniedError(absl::StrCat(subject, ": the NATS server does not permit it"));
    case NATS_NO_SERVER_SUPPORT:
      return absl::FailedPreconditionError(
          absl::StrCat(subject, ": the NATS server does not take headers; allow them there"));
    case NATS_NO_MEMORY:
      return absl::ResourceExhaustedError(absl::StrCat(subject, ": out of memory"));

    // The network did not take all of it within the write deadline, or broke, or something else happened on the way.
    case NATS_TIMEOUT:
      return absl::DeadlineExceededError(absl::StrCat(subject, ": the NATS server did not take it in time"));
    default:
      return absl::DeadlineExceededError(
          absl::StrCat(subject, ": ", natsStatus_GetText(status), "; it may have been sent"));
  }
}

absl::Status FromNatsConnect(natsStatus status) {
  natsStatus last = NATS_OK;
  const char* raw = nats_GetLastError(&last);
  std::string text = raw != nullptr && last == status ? raw : natsStatus_GetText(status);
  // It begins with the place in the source: "(conn.c:123): ".
  if (const size_t end = text.find("): "); !text.empty() && text.front() == '(' && end != std::string::npos) {
    text.erase(0, end + 3);
  }
  switch (status) {
    case NATS_OK:
      return absl::OkStatus();
    case NATS_CONNECTION_AUTH_FAILED:
      return absl::PermissionDeniedError("the server refuses the credentials");
    case NATS_SSL_ERROR:
      // The other side, the network or our own limit of time ended it.
      if (text.find("unexpected eof") != std::string::npos || text.find("(null)") != std::string::npos) {
        return absl::UnavailableError("the connection ended in the middle of the TLS handshake");
      }
      return absl::FailedPreconditionError(absl::StrCat("TLS fails: ", text));
    case NATS_SECURE_CONNECTION_REQUIRED:
    case NATS_SECURE_CONNECTION_WANTED:
      return absl::FailedPreconditionError("one side wants TLS and the other does not");
    case NATS_NO_MEMORY:
      return absl::ResourceExhaustedError("out of memory");
    // What the server says, such as "maximum connections exceeded".
    case NATS_ERR:
      return absl::UnavailableError(text);
    default:
      return absl::UnavailableError(natsStatus_GetText(status));
  }
}

}  // namespace kv::internal
