// What comes from a server, or from whoever answers in its place: JetStream's answers, subjects of keys and of
// acknowledgements, and items of memcached.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "kv/internal/memcached_item.h"
#include "kv/internal/nats_api.h"
#include "kv/internal/nats_keys.h"
#include "kv/internal/nats_metadata.h"
#include "tests/fuzz/check.h"

namespace {

template <typename T>
void CheckAnswer(const absl::StatusOr<T>& answer) {
  if (!answer.ok()) {
    fuzz::Check(answer.status().code() == absl::StatusCode::kInternal, "an error is Internal",
                answer.status().ToString());
  } else if (answer->error.has_value()) {
    fuzz::Check(!kv::internal::ToStatus(*answer->error, "call").ok(), "an error is not OK");
  }
}

void RunItem(std::string_view text) {
  // The text is an item, a key, and a value.
  const std::string prefix = kv::internal::EscapeItemPrefix("p").value();
  for (const std::string& key : {std::string(text), std::string(400, 'k')}) {
    const kv::internal::ItemName name = kv::internal::NameItem(prefix, key);
    fuzz::Check(!name.text.empty() && name.text.size() <= kv::internal::kMaxItemName, "a name has room", name.text);
    for (const char c : name.text) fuzz::Check(c > ' ' && c < 0x7f, "a name is printable", name.text);
    const auto entry = kv::internal::DecodeItem(name, kv::internal::EncodeItem(name, 7, text));
    fuzz::Check(entry.ok() && entry->value == text && entry->revision == 7, "an item comes back");
    const auto other = kv::internal::DecodeItem(name, std::string(text));
    if (other.ok()) continue;
    const auto code = other.status().code();
    fuzz::Check(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kFailedPrecondition,
                "an error is DataLoss or FailedPrecondition", other.status().ToString());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckAnswer(kv::internal::ParsePublished(text));
  CheckAnswer(kv::internal::ParseStored(text));
  CheckAnswer(kv::internal::ParseStreamInfo(text));
  CheckAnswer(kv::internal::ParseDone(text));
  kv::internal::IsMarker(text);
  kv::internal::ParseNatsMetadata(text);
  fuzz::Check(kv::internal::DecodeKey(kv::internal::EncodeKey(text)) == text, "every key has a subject");
  if (const auto key = kv::internal::DecodeKey(text); key.has_value()) {
    fuzz::Check(kv::internal::EncodeKey(*key) == text, "a key has one subject", *key);
  }
  RunItem(text);
  return 0;
}
