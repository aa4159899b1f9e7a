// set NAME VALUE MS, get NAME MS        an AtomicValue
// fill NAME MS                          sets AtomicValues NAME-0, NAME-1, ... of half a megabyte until one fails: that
//                                       error
// add NAME MS                           adds 1 to an AtomicValue: the sum
// tally NAME, tally-stop NAME           adds 1 to it again and again until tally-stop, which gives how many additions
//                                       were acknowledged, how many have an unknown outcome, how many failed
// fenced-set CELL SLOT VALUE MS         a FencedCell, with the grant in SLOT
// fenced-get CELL MS                    VALUE FENCE
// fenced-pause CELL SLOT VALUE MS       an Update whose function stops this process, once
// map-open NAME MS, map-set NAME KEY VALUE MS, map-get NAME KEY; each change is an event "map NAME KEY VALUE TIME"
// value-open NAME MS, value-set NAME VALUE MS, value-get NAME; each change is an event "value NAME VALUE TIME"

#include <signal.h>

#include <atomic>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

using coord::Cluster;

struct Cells {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<coord::SharedMap>> maps;
  std::map<std::string, std::shared_ptr<coord::SharedValue>> values;
  std::map<std::string, coord::AtomicValue> numbers;
  std::vector<coord::Subscription> subscriptions;
  std::map<std::string, std::shared_ptr<std::atomic<bool>>> tallies;  // true: stop

  // One handle of each name: it remembers what it has seen.
  coord::AtomicValue Number(Cluster& cluster, const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex);
    return numbers.try_emplace(name, cluster.AtomicValue(name)).first->second;
  }
  std::shared_ptr<coord::SharedMap> Map(const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex);
    return maps.at(name);
  }
  std::shared_ptr<coord::SharedValue> Value(const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex);
    return values.at(name);
  }
};

absl::StatusOr<std::string> Text(const absl::StatusOr<coord::Revision>& revision) {
  const int64_t now = BootNanos();
  if (!revision.ok()) return revision.status();
  return absl::StrCat(revision->number, " ", now);
}

absl::StatusOr<std::string> Tally(Cells& cells, Cluster& cluster, const std::string& name) {
  auto stop = std::make_shared<std::atomic<bool>>(false);
  {
    std::lock_guard<std::mutex> lock(cells.mutex);
    cells.tallies[name] = stop;
  }
  coord::AtomicValue value = cluster.AtomicValue(name);
  int64_t acknowledged = 0, unknown = 0, failed = 0;
  while (!*stop) {
    const absl::StatusOr<coord::Versioned> added = value.Update(PlusOne, absl::Now() + absl::Milliseconds(200));
    if (added.ok()) {
      ++acknowledged;
    } else if (absl::IsDeadlineExceeded(added.status())) {
      ++unknown;
    } else if (absl::IsUnavailable(added.status())) {
      ++failed;
    } else {
      return added.status();
    }
  }
  return absl::StrCat(acknowledged, " ", unknown, " ", failed);
}

absl::StatusOr<std::string> Pause(Session& session, Cluster& cluster, const Arguments& arguments) {
  bool stopped = false;
  const absl::StatusOr<coord::Fenced> written =
      cluster.FencedCell(arguments.Text(0))
          .Update(
              *session.Find(arguments.Text(1)),
              [&](const std::optional<std::string>&) -> absl::StatusOr<std::string> {
                if (!std::exchange(stopped, true)) raise(SIGSTOP);
                return arguments.Text(2);
              },
              arguments.Deadline(3));
  if (!written.ok()) return written.status();
  return absl::StrCat(written->fence);
}

absl::StatusOr<std::string> OpenMap(Session& session, Cells& cells, Cluster& cluster, const Arguments& arguments) {
  const std::string name = arguments.Text(0);
  auto map = cluster.SharedMap(name, arguments.Deadline(1));
  if (!map.ok()) return map.status();
  coord::Subscription subscription =
      (*map)->OnChange([&session, name](const std::string& key, const std::optional<coord::Versioned>& now) {
        session.Event(absl::StrCat("map ", name, " ", key, " ", now.has_value() ? now->value : "-", " ", BootNanos()));
      });
  std::lock_guard<std::mutex> lock(cells.mutex);
  cells.maps[name] = *std::move(map);
  cells.subscriptions.push_back(std::move(subscription));
  return std::string("open");
}

absl::StatusOr<std::string> OpenValue(Session& session, Cells& cells, Cluster& cluster, const Arguments& arguments) {
  const std::string name = arguments.Text(0);
  auto value = cluster.SharedValue(name, arguments.Deadline(1));
  if (!value.ok()) return value.status();
  coord::Subscription subscription =
      (*value)->OnChange([&session, name](const std::shared_ptr<const coord::Versioned>& now) {
        session.Event(absl::StrCat("value ", name, " ", now != nullptr ? now->value : "-", " ", BootNanos()));
      });
  std::lock_guard<std::mutex> lock(cells.mutex);
  cells.values[name] = *std::move(value);
  cells.subscriptions.push_back(std::move(subscription));
  return std::string("open");
}

void AddShared(Session& session, const std::shared_ptr<Cells>& cells) {
  session.AddJoined("map-open", [&session, cells](Cluster& cluster, const Arguments& arguments) {
    return OpenMap(session, *cells, cluster, arguments);
  });
  session.Add("map-set", [cells](const Arguments& arguments) {
    return Text(cells->Map(arguments.Text(0))->Set(arguments.Text(1), arguments.Text(2), arguments.Deadline(3)));
  });
  session.Add("map-get", [cells](const Arguments& arguments) -> absl::StatusOr<std::string> {
    const std::optional<coord::Versioned> found = cells->Map(arguments.Text(0))->Find(arguments.Text(1));
    if (!found.has_value()) return absl::NotFoundError("absent");
    return found->value;
  });
  session.AddJoined("value-open", [&session, cells](Cluster& cluster, const Arguments& arguments) {
    return OpenValue(session, *cells, cluster, arguments);
  });
  session.Add("value-set", [cells](const Arguments& arguments) {
    return Text(cells->Value(arguments.Text(0))->Set(arguments.Text(1), arguments.Deadline(2)));
  });
  session.Add("value-get", [cells](const Arguments& arguments) -> absl::StatusOr<std::string> {
    const std::shared_ptr<const coord::Versioned> now = cells->Value(arguments.Text(0))->Get();
    if (now == nullptr) return absl::NotFoundError("absent");
    return now->value;
  });
}

}  // namespace

absl::StatusOr<std::string> PlusOne(const std::optional<std::string>& now) {
  int64_t count = 0;
  if (now.has_value() && !absl::SimpleAtoi(*now, &count)) return absl::DataLossError("not a number: " + *now);
  return absl::StrCat(count + 1);
}

void AddCellCommands(Session& session) {
  auto cells = std::make_shared<Cells>();
  AddShared(session, cells);
  session.AddJoined("set", [](Cluster& cluster, const Arguments& arguments) {
    return Text(cluster.AtomicValue(arguments.Text(0)).Set(arguments.Text(1), arguments.Deadline(2)));
  });
  session.AddJoined("get", [](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const absl::StatusOr<coord::Versioned> now = cluster.AtomicValue(arguments.Text(0)).Get(arguments.Deadline(1));
    if (!now.ok()) return now.status();
    return now->value;
  });
  session.AddJoined("fill", [](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const std::string large(512 << 10, 'x');
    for (int i = 0; i < 1000; ++i) {
      const auto set = cluster.AtomicValue(absl::StrCat(arguments.Text(0), "-", i)).Set(large, arguments.Deadline(1));
      if (!set.ok()) return set.status();
    }
    return std::string("500 MB");
  });
  session.AddJoined("add", [cells](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const auto added = cells->Number(cluster, arguments.Text(0)).Update(PlusOne, arguments.Deadline(1));
    if (!added.ok()) return added.status();
    return added->value;
  });
  session.AddJoined("tally", [cells](Cluster& cluster, const Arguments& arguments) {
    return Tally(*cells, cluster, arguments.Text(0));
  });
  session.Add("tally-stop", [cells](const Arguments& arguments) -> absl::StatusOr<std::string> {
    std::lock_guard<std::mutex> lock(cells->mutex);
    cells->tallies.at(arguments.Text(0))->store(true);
    return std::string("stopping");
  });
  session.AddJoined("fenced-set", [&session](Cluster& cluster, const Arguments& arguments) {
    return Text(cluster.FencedCell(arguments.Text(0))
                    .Set(*session.Find(arguments.Text(1)), arguments.Text(2), arguments.Deadline(3)));
  });
  session.AddJoined("fenced-get", [](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const absl::StatusOr<coord::Fenced> now = cluster.FencedCell(arguments.Text(0)).Get(arguments.Deadline(1));
    if (!now.ok()) return now.status();
    return absl::StrCat(now->value, " ", now->fence);
  });
  session.AddJoined("fenced-pause", [&session](Cluster& cluster, const Arguments& arguments) {
    return Pause(session, cluster, arguments);
  });
}

}  // namespace process_test
