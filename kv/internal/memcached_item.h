// How an entry lies in memcached: the name of its item, and what is in it.

#ifndef KV_INTERNAL_MEMCACHED_ITEM_H_
#define KV_INTERNAL_MEMCACHED_ITEM_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/store.h"

namespace kv::internal {

// What memcached takes as a key, and what an item needs of the server's item size beside the entry's value: the
// server's own structure, its key, our header and the whole key.
constexpr size_t kMaxItemName = 250;
constexpr size_t kItemOverhead = 1024;

// The name of an item. Printable ASCII without spaces; no two keys of one prefix have one name, nor do two of different
// prefixes, unless SHA-256 collides.
struct ItemName {
  std::string text;
  // The key, where the name has only its hash.
  std::string hashed_key;
};

// `prefix` in the form that names begin with. InvalidArgument where it is too long.
absl::StatusOr<std::string> EscapeItemPrefix(std::string_view prefix);

// PREFIX:KEY, the key with every byte but printable ASCII as %XX. Where that is too long: PREFIX:BEGINNING%#HASH.
ItemName NameItem(const std::string& escaped_prefix, std::string_view key);

// "coord-kv/1.0 REVISION LENGTH\n", the hashed key of that length, and the value.
std::string EncodeItem(const ItemName& name, Revision revision, std::string_view value);

// FailedPrecondition for an item of a newer major version or of another key, DataLoss for one that is none of ours.
absl::StatusOr<Entry> DecodeItem(const ItemName& name, std::string bytes);

}  // namespace kv::internal

#endif  // KV_INTERNAL_MEMCACHED_ITEM_H_
