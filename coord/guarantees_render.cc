// The table of coord/guarantees.h as text.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "coord/guarantees.h"

namespace coord {
namespace {

constexpr size_t kColumns = 100;

const char* Word(Holds holds) {
  switch (holds) {
    case Holds::kYes:
      return "yes";
    case Holds::kLimited:
      return "limited";
    case Holds::kNo:
      return "no";
  }
  return "";
}

std::vector<std::pair<const char*, const Promise*>> Promises(const Guarantees& row) {
  return {{"exclusion", &row.exclusion}, {"fence", &row.fence}, {"durability", &row.durability},
          {"watch", &row.watch},         {"order", &row.order}, {"events", &row.events}};
}

// `text` after `head`, in lines of kColumns that begin below where it began.
std::string Wrapped(const std::string& head, const std::string& text) {
  std::string wrapped = head;
  size_t column = head.size();
  bool first = true;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!first && column + 1 + word.size() > kColumns) {
      absl::StrAppend(&wrapped, "\n", std::string(head.size(), ' '));
      column = head.size();
      first = true;
    }
    absl::StrAppend(&wrapped, first ? "" : " ", word);
    column += word.size() + (first ? 0 : 1);
    first = false;
  }
  return wrapped + "\n";
}

const char* AcceptWeaker(const Guarantees& row) { return row.needs_accept_weaker ? "needed" : "not needed"; }

const char kIntroduction[] = R"(# What each store promises

The same text comes from the program (`plugin --guarantees`); both are made by `coord/guarantees.cc`, and tests compare them
with each other and with what opened stores say of themselves. `limited` means: with the limits that the section of the store tells.

- **exclusion**: at most one copy at a time holds a lock. A lock is a lease: a copy that is paused beyond its ttl may act on after that, and
  only a fence that is compared where the data is keeps it out.
- **fence**: the fence of a name grows with every owner.
- **durability**: what was acknowledged is kept.
- **watch**: changes come to the copies without asking.
- **order**: revisions grow over all keys, changes come in that order, and a read sees every write that was acknowledged before it.
- **events**: what the event bus carries if no other is given. Events are hints on every store; what must not be lost belongs into a cell.
- **accept_weaker**: joining over such a store is refused unless `JoinOptions::accept_weaker` (the flag `--accept-weaker`) is given; then one
  warning names what is missing.

)";

}  // namespace

std::string GuaranteesText(const std::vector<Guarantees>& rows) {
  std::string text;
  for (const Guarantees& row : rows) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", row.url, "\n", Wrapped("  ", row.what));
    for (const auto& [name, promise] : Promises(row)) {
      absl::StrAppend(&text, Wrapped(absl::StrFormat("  %-11s%-9s", name, Word(promise->holds)), promise->sentence));
    }
    absl::StrAppend(&text, Wrapped(absl::StrFormat("  %-20s", "settings"), row.settings),
                    Wrapped(absl::StrFormat("  %-20s", "--accept-weaker"), AcceptWeaker(row)));
  }
  return text;
}

std::string GuaranteesMarkdown(const std::vector<Guarantees>& rows) {
  std::string text = kIntroduction;
  absl::StrAppend(&text, "| store |");
  for (const auto& column : Promises(rows.front())) absl::StrAppend(&text, " ", column.first, " |");
  absl::StrAppend(&text, " accept_weaker |\n|---|---|---|---|---|---|---|---|\n");
  for (const Guarantees& row : rows) {
    absl::StrAppend(&text, "| `", row.url, "` |");
    for (const auto& column : Promises(row)) absl::StrAppend(&text, " ", Word(column.second->holds), " |");
    absl::StrAppend(&text, " ", AcceptWeaker(row), " |\n");
  }
  for (const Guarantees& row : rows) {
    absl::StrAppend(&text, "\n## `", row.url, "`\n\n", row.what, "\n\n| | | |\n|---|---|---|\n");
    for (const auto& [name, promise] : Promises(row)) {
      absl::StrAppend(&text, "| ", name, " | ", Word(promise->holds), " | ", promise->sentence, " |\n");
    }
    absl::StrAppend(&text, "| settings | | ", row.settings, " |\n");
  }
  return text;
}

}  // namespace coord
