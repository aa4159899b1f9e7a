// Records as any program could have left them in a store.

#include "coord/internal/records.h"

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/check.h"

namespace {

using coord::internal::Format;
using Json = nlohmann::ordered_json;

// A newer major is refused, and what this version does not know is still there after a rewrite.
void CheckHeader(std::string_view before, std::string_view after, const std::set<std::string>& known) {
  const Json input = Json::parse(before, nullptr, false);
  const Json output = Json::parse(after, nullptr, false);
  fuzz::Check(input.is_object() && output.is_object(), "a record is a JSON object", std::string(after));
  const std::string version = input["v"];
  fuzz::Check(version.rfind("1.", 0) == 0, "only the major version 1 is read", version);
  fuzz::Check(output["v"] == version, "the version stays", std::string(after));
  for (auto field = input.begin(); field != input.end(); ++field) {
    if (known.count(field.key()) != 0) continue;
    fuzz::Check(output.contains(field.key()) && output[field.key()] == field.value(), "an unknown field survives",
                field.key() + " in " + std::string(after));
  }
}

template <typename Parse>
void Run(const Parse& parse, std::string_view text, const std::set<std::string>& known, bool header_only) {
  const auto record = parse(text, "record");
  if (!record.ok()) {
    const auto code = record.status().code();
    fuzz::Check(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kFailedPrecondition,
                "an error is DataLoss or FailedPrecondition", record.status().ToString());
    return;
  }
  const std::string again = Format(*record);
  const auto twice = parse(again, "record");
  fuzz::Check(twice.ok(), "what was read can be written and read", twice.status().ToString() + "\n" + again);
  fuzz::Check(Format(*twice) == again, "a rewrite changes nothing", again + "\n" + Format(*twice));
  if (!header_only) return CheckHeader(text, again, known);
  const size_t line = text.find('\n'), new_line = again.find('\n');
  fuzz::Check(text.substr(line) == std::string_view(again).substr(new_line), "the value stays as it is", again);
  CheckHeader(text.substr(0, line), std::string_view(again).substr(0, new_line), known);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Run(coord::internal::ParseGrantRecord, text, {"v", "w", "capacity", "fence", "owners", "queue"}, false);
  Run(coord::internal::ParseSessionRecord, text, {"v", "w", "mark", "ttl_ms", "instance", "since", "beat"}, false);
  Run(coord::internal::ParseEpochRecord, text, {"v", "w", "id", "created_us", "settled", "max_ttl_ms"}, false);
  Run(coord::internal::ParseCellRecord, text, {"v", "w", "fence", "guard"}, true);
  return 0;
}
