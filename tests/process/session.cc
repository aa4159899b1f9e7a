#include "tests/process/session.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/open_events.h"
#include "kv/open.h"

namespace process_test {
namespace {

[[noreturn]] void Misused(const std::string& why) {
  std::fprintf(stderr, "worker %d: %s\n", static_cast<int>(getpid()), why.c_str());
  abort();
}

std::string OneLine(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

}  // namespace

const std::string& Arguments::Text(size_t index) const {
  if (index >= words_.size()) Misused(absl::StrCat("argument ", index, " is missing"));
  return words_[index];
}

int64_t Arguments::Number(size_t index) const {
  int64_t number = 0;
  if (!absl::SimpleAtoi(Text(index), &number)) Misused(absl::StrCat(Text(index), " is no number"));
  return number;
}

absl::Time Arguments::Deadline(size_t index) const { return absl::Now() + Milliseconds(index); }

int64_t BootNanos() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void AppendRecord(const std::string& file, std::string line) {
  constexpr size_t kRecord = 64;
  if (line.size() >= kRecord) Misused(absl::StrCat("the record is too long: ", line));
  line.resize(kRecord - 1, ' ');
  line += '\n';
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    Misused(absl::StrCat("cannot append to ", file));
  }
  close(fd);
}

void Session::AddJoined(const std::string& command,
                        std::function<absl::StatusOr<std::string>(coord::Cluster&, const Arguments&)> handler) {
  Add(command, [this, command, handler = std::move(handler)](const Arguments& arguments) {
    const std::shared_ptr<coord::Cluster> joined = cluster();
    if (joined == nullptr) Misused(absl::StrCat(command, " before join"));
    return handler(*joined, arguments);
  });
}

absl::StatusOr<std::shared_ptr<kv::Store>> Session::Store() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (store_ != nullptr) return store_;
  const absl::StatusOr<std::shared_ptr<kv::Store>> opened = kv::Open(flags_.store);
  if (!opened.ok()) return opened;
  if (!flags_.events.empty()) {
    const absl::StatusOr<std::shared_ptr<coord::EventDriver>> events = coord::OpenEvents(flags_.events);
    if (!events.ok()) return events.status();
    events_ = *events;
  }
  store_ = *opened;
  return store_;
}

coord::JoinOptions Session::Options(std::shared_ptr<kv::Store> store) const {
  coord::JoinOptions options;
  options.store = std::move(store);
  options.plugin = flags_.plugin;
  options.instance = flags_.instance;
  options.ttl = flags_.ttl;
  options.max_ttl = flags_.max_ttl > absl::ZeroDuration() ? flags_.max_ttl : std::max(options.max_ttl, flags_.ttl);
  options.call_timeout = flags_.call_timeout;
  options.accept_weaker = flags_.accept_weaker;
  std::lock_guard<std::mutex> lock(mutex_);
  options.events = events_;
  return options;
}

std::shared_ptr<coord::Cluster> Session::cluster() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cluster_;
}

void Session::Keep(const std::string& slot, coord::Grant grant) {
  auto kept = std::make_shared<coord::Grant>(std::move(grant));
  kept->OnLost([this, slot] { Event(absl::StrCat("lost ", slot, " ", BootNanos())); });
  std::lock_guard<std::mutex> lock(mutex_);
  grants_[slot] = std::move(kept);
}

std::shared_ptr<coord::Grant> Session::Find(const std::string& slot) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = grants_.find(slot);
  if (found == grants_.end()) Misused(absl::StrCat("there is no grant ", slot));
  return found->second;
}

void Session::AddOwnCommands() {
  // join [MILLISECONDS]: the session's id.
  Add("join", [this](const Arguments& arguments) -> absl::StatusOr<std::string> {
    absl::StatusOr<std::shared_ptr<kv::Store>> store = Store();
    if (!store.ok()) return store.status();
    coord::JoinOptions options = Options(*store);
    if (arguments.size() > 0) options.join_timeout = arguments.Milliseconds(0);
    options.on_state = [this](coord::SessionState state) {
      Event(state == coord::SessionState::kAttached    ? "state attached"
            : state == coord::SessionState::kUncertain ? "state uncertain"
                                                       : "state lost");
    };
    auto joined = coord::Cluster::Join(std::move(options));
    if (!joined.ok()) return joined.status();
    std::lock_guard<std::mutex> lock(mutex_);
    cluster_ = *std::move(joined);
    return cluster_->session();
  });
  // BEATS FAILED_BEATS SESSIONS CONFLICTS UNKNOWN_OUTCOMES
  AddJoined("stats", [](coord::Cluster& cluster, const Arguments&) -> absl::StatusOr<std::string> {
    const coord::Stats stats = cluster.Stats();
    return absl::StrCat(stats.beats, " ", stats.failed_beats, " ", stats.sessions, " ", stats.conflicts, " ",
                        stats.unknown_outcomes);
  });
  AddJoined("session", [](coord::Cluster& cluster, const Arguments&) { return cluster.session(); });
  AddJoined("leave", [](coord::Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const int64_t begun = BootNanos();
    const absl::Status left = cluster.Leave(arguments.Deadline(0));
    if (!left.ok()) return left;
    return absl::StrCat(begun);
  });
}

void Session::WriteLine(const std::string& line) {
  const std::string text = OneLine(line) + "\n";
  std::lock_guard<std::mutex> lock(output_);
  // Nobody listens any more where this fails, and then this process is about to be killed.
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) return;
}

void Session::Execute(const std::vector<std::string>& words) {
  const auto handler = handlers_.find(words[1]);
  if (handler == handlers_.end()) Misused(absl::StrCat("there is no command ", words[1]));
  const int64_t begun = BootNanos();
  const absl::StatusOr<std::string> result = handler->second(Arguments({words.begin() + 2, words.end()}));
  const int64_t micros = (BootNanos() - begun) / 1000;
  const std::string text = result.ok() ? *result : std::string(result.status().message());
  WriteLine(absl::StrCat(words[0], " ", static_cast<int>(result.status().code()), " ", micros, " ", text));
}

void Session::Run() {
  AddOwnCommands();
  std::vector<std::thread> running;
  std::string line;
  std::string quit;
  while (quit.empty() && std::getline(std::cin, line)) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.size() < 2) Misused("a line is TAG COMMAND ARGUMENT...");
    if (words[1] == "quit") {
      quit = words[0];
    } else {
      // A command that comes after another's reply sees what that one did: replies are written under this mutex.
      const std::lock_guard<std::mutex> lock(output_);
      running.emplace_back([this, words] { Execute(words); });
    }
  }
  std::shared_ptr<coord::Cluster> last;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    last = cluster_;
  }
  // Waits of running commands end with it.
  if (last != nullptr) static_cast<void>(last->Leave(absl::Now() + absl::Seconds(5)));
  for (std::thread& thread : running) thread.join();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    grants_.clear();
    cluster_ = nullptr;
  }
  handlers_.clear();
  last = nullptr;
  if (!quit.empty()) WriteLine(absl::StrCat(quit, " 0 0 bye"));
}

}  // namespace process_test
