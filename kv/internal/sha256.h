// SHA-256, by OpenSSL: for names that must be shortened without two of them becoming one.

#ifndef KV_INTERNAL_SHA256_H_
#define KV_INTERNAL_SHA256_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace kv::internal {

std::array<uint8_t, 32> Sha256(std::string_view text);

}  // namespace kv::internal

#endif  // KV_INTERNAL_SHA256_H_
