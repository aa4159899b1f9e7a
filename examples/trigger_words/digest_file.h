// Where the digest's lines go: a file that several processes may have open, or the standard output.

#ifndef EXAMPLES_TRIGGER_WORDS_DIGEST_FILE_H_
#define EXAMPLES_TRIGGER_WORDS_DIGEST_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trigger_words {

// Not thread-safe.
class DigestFile {
 public:
  // Opens or creates `path`; empty: the standard output.
  static absl::StatusOr<DigestFile> Open(const std::string& path);
  DigestFile(DigestFile&& other) noexcept;
  DigestFile& operator=(DigestFile&&) = delete;
  DigestFile(const DigestFile&) = delete;
  ~DigestFile();

  // The same in every process that has this very file open; the standard output is every process's own.
  const std::string& id() const { return id_; }

  // Opens the file at the path again if another is there by now, for example after a log rotation; id() then changes.
  absl::Status Refresh();

  // Where the file ends; 0 for the standard output.
  absl::StatusOr<int64_t> End() const;

  // Writes `line` at `offset`, so that writing it again changes nothing; to the standard output at the end, whatever
  // `offset` says.
  absl::Status WriteAt(int64_t offset, std::string_view line);

  bool is_file() const { return !path_.empty(); }

 private:
  DigestFile(std::string path, int fd, std::string id);
  std::string path_;
  int fd_;
  std::string id_;
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_DIGEST_FILE_H_
