// Events, floors and cursors as any program could have left them in a store.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coord/internal/event_record.h"
#include "tests/fuzz/check.h"

namespace {

using coord::internal::Format;

template <typename Parse>
void Run(const Parse& parse, std::string_view text) {
  const auto record = parse(text, "event");
  if (!record.ok()) {
    const auto code = record.status().code();
    fuzz::Check(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kFailedPrecondition,
                "an error is DataLoss or FailedPrecondition", record.status().ToString());
    return;
  }
  const std::string again = Format(*record);
  const auto twice = parse(again, "event");
  fuzz::Check(twice.ok(), "what was read can be written and read", twice.status().ToString() + "\n" + again);
  fuzz::Check(Format(*twice) == again, "a rewrite changes nothing", again + "\n" + Format(*twice));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Run(coord::internal::ParseEventEnvelope, text);
  Run(coord::internal::ParseEventFloor, text);
  Run(coord::internal::ParseEventCursor, text);
  if (const auto envelope = coord::internal::ParseEventEnvelope(text, "event"); envelope.ok()) {
    fuzz::Check(text.substr(text.find('\n') + 1) == envelope->payload, "the payload stays as it is");
  }
  if (const auto key = coord::internal::ParseEventKey(text); key.has_value()) {
    fuzz::Check(Format(*key) == text, "a key has one form", Format(*key));
  }
  return 0;
}
