// Formatting is on the path of every lock operation, so it appends text and builds no tree.

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/records.h"
#include "coord/internal/utf8.h"

namespace coord::internal {
namespace {

constexpr char kHex[] = "0123456789abcdef";
constexpr int64_t kLastMillisecond = 253402300799999;  // of the year 9999

class Writer {
 public:
  explicit Writer(size_t expected_size) { out_.reserve(expected_size); }

  void Raw(std::string_view text) { out_ += text; }

  void Number(uint64_t number) {
    char digits[20];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr - digits);
  }

  // Up to the next millisecond: whoever waits for a session waits for all of its ttl.
  void Milliseconds(absl::Duration duration) {
    const int64_t down = absl::ToInt64Milliseconds(duration);
    Number(static_cast<uint64_t>(down + (absl::Milliseconds(down) < duration ? 1 : 0)));
  }

  // `text` in quotes.
  void Text(std::string_view text) {
    out_ += '"';
    while (!text.empty()) {
      const size_t plain = PlainPrefix(text);
      out_.append(text.data(), plain);
      text.remove_prefix(plain);
      if (!text.empty()) text.remove_prefix(Special(text));
    }
    out_ += '"';
  }

  void Hex(std::string_view bytes) {
    out_ += '"';
    for (const char byte : bytes) {
      out_ += kHex[static_cast<unsigned char>(byte) >> 4];
      out_ += kHex[static_cast<unsigned char>(byte) & 15];
    }
    out_ += '"';
  }

  // Days to year, month and day: years are counted from March, so that the leap day is the last of a year.
  void Time(absl::Time time) {
    int64_t ms = absl::ToUnixMillis(time);
    ms = ms < 0 ? 0 : ms > kLastMillisecond ? kLastMillisecond : ms;
    const int64_t day_ms = ms % 86400000, seconds = day_ms / 1000;
    const int64_t day = ms / 86400000 + 719468;  // since March 1st of the year 0
    const int64_t of_era = day % 146097;         // 400 years have 146,097 days
    const int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month_from_march = (5 * of_year + 2) / 153;
    const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    const int64_t year = year_of_era + day / 146097 * 400 + (month <= 2 ? 1 : 0);
    char text[] = "\"0000-00-00T00:00:00.000Z\"";
    Digits(text + 1, 4, year);
    Digits(text + 6, 2, month);
    Digits(text + 9, 2, of_year - (153 * month_from_march + 2) / 5 + 1);
    Digits(text + 12, 2, seconds / 3600);
    Digits(text + 15, 2, seconds / 60 % 60);
    Digits(text + 18, 2, seconds % 60);
    Digits(text + 21, 3, day_ms % 1000);
    out_.append(text, sizeof text - 1);
  }

  void Version(int minor) {
    Raw("{\"v\":\"");
    Number(kMajor);
    Raw(".");
    Number(static_cast<uint64_t>(minor));
    Raw("\"");
  }

  // The end of an object, with the fields of a newer minor.
  void End(std::string_view extra) {
    if (extra.size() > 2) {
      out_ += ',';
      out_.append(extra.data() + 1, extra.size() - 2);
    }
    out_ += '}';
  }

  void Entry(const GrantEntry& entry, bool owner) {
    Raw("{\"session\":");
    Text(entry.session);
    Raw(",\"instance\":");
    Text(entry.instance);
    Raw(",\"ttl_ms\":");
    Milliseconds(entry.ttl);
    Raw(",\"since\":");
    Time(entry.since);
    if (owner) {
      Raw(",\"fence\":");
      Number(entry.fence);
    }
    Raw(",\"tickets\":[");
    for (size_t i = 0; i < entry.tickets.size(); ++i) {
      Raw(i == 0 ? "[" : ",[");
      Number(entry.tickets[i].id);
      Raw(",");
      Number(entry.tickets[i].weight);
      Raw("]");
    }
    Raw("]");
    if (!entry.value.empty()) {
      const bool text = IsUtf8(entry.value);
      Raw(text ? ",\"value\":" : ",\"value_hex\":");
      text ? Text(entry.value) : Hex(entry.value);
    }
    End(entry.extra);
  }

  void Entries(const std::vector<GrantEntry>& entries, bool owners) {
    Raw("[");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i != 0) Raw(",");
      Entry(entries[i], owners);
    }
    Raw("]");
  }

  std::string Take() { return std::move(out_); }

 private:
  // How many bytes at the start need no look: ASCII without quote, backslash and control characters.
  static size_t PlainPrefix(std::string_view text) {
    static constexpr auto kPlain = [] {
      std::array<bool, 256> plain{};
      for (int c = 0x20; c < 0x7f; ++c) plain[c] = c != '"' && c != '\\';
      return plain;
    }();
    size_t i = 0;
    while (i < text.size() && kPlain[static_cast<unsigned char>(text[i])]) ++i;
    return i;
  }

  // Appends the character at the start of `text`, and returns how many bytes it took.
  size_t Special(std::string_view text) {
    char32_t code = 0;
    const size_t length = DecodeUtf8(text, code);
    if (length == 0) {
      out_ += "\xef\xbf\xbd";
      return 1;
    }
    if (IsControl(code)) {
      out_ += "\\u00";
      out_ += kHex[code >> 4];
      out_ += kHex[code & 15];
    } else {
      if (code == '"' || code == '\\') out_ += '\\';
      out_.append(text.data(), length);
    }
    return length;
  }

  static void Digits(char* at, int count, int64_t number) {
    for (; count > 0; number /= 10) at[--count] = static_cast<char>('0' + number % 10);
  }

  std::string out_;
};

std::string_view MarkName(SessionMark mark) {
  switch (mark) {
    case SessionMark::kLive:
      return "\"live\"";
    case SessionMark::kBroken:
      return "\"broken\"";
    case SessionMark::kEnded:
      break;
  }
  return "\"ended\"";
}

}  // namespace

std::string Format(const GrantRecord& record) {
  Writer out(128 + 192 * (record.owners.size() + record.queue.size()));
  out.Version(record.minor);
  out.Raw(",\"capacity\":");
  out.Number(record.capacity);
  out.Raw(",\"fence\":");
  out.Number(record.fence);
  out.Raw(",\"w\":");
  out.Text(record.nonce);
  out.Raw(",\"owners\":");
  out.Entries(record.owners, true);
  out.Raw(",\"queue\":");
  out.Entries(record.queue, false);
  out.End(record.extra);
  return out.Take();
}

std::string Format(const SessionRecord& record) {
  Writer out(192);
  out.Version(record.minor);
  out.Raw(",\"mark\":");
  out.Raw(MarkName(record.mark));
  out.Raw(",\"ttl_ms\":");
  out.Milliseconds(record.ttl);
  out.Raw(",\"instance\":");
  out.Text(record.instance);
  out.Raw(",\"since\":");
  out.Time(record.since);
  out.Raw(",\"beat\":");
  out.Number(record.beat);
  out.Raw(",\"w\":");
  out.Text(record.nonce);
  out.End(record.extra);
  return out.Take();
}

std::string Format(const EpochRecord& record) {
  Writer out(192);
  out.Version(record.minor);
  out.Raw(",\"id\":");
  out.Text(record.id);
  out.Raw(",\"created_us\":");
  out.Number(record.created_us);
  out.Raw(record.settled ? ",\"settled\":true" : ",\"settled\":false");
  out.Raw(",\"max_ttl_ms\":");
  out.Milliseconds(record.max_ttl);
  out.Raw(",\"w\":");
  out.Text(record.nonce);
  out.End(record.extra);
  return out.Take();
}

std::string Format(const CellRecord& record) {
  Writer out(96 + record.value.size());
  out.Version(record.minor);
  out.Raw(",\"w\":");
  out.Text(record.nonce);
  if (record.fence != 0) {
    out.Raw(",\"fence\":");
    out.Number(record.fence);
  }
  if (!record.guard.empty()) {
    out.Raw(",\"guard\":");
    out.Text(record.guard);
  }
  out.End(record.extra);
  out.Raw("\n");
  out.Raw(record.value);
  return out.Take();
}

}  // namespace coord::internal
