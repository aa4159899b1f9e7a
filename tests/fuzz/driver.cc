// Runs a harness without a fuzzer: on every file of its corpus, and on mutations of them that depend on the seed alone.
//
//   driver FOLDER RUNS [SEED]
//
// When the harness ends the program, the input is printed as an escaped text.

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kMaxBytes = 4096;

std::string current;

void Write(const char* text, size_t size) {
  if (write(STDERR_FILENO, text, size) < 0) _exit(1);
}

void PrintInput(int signal) {
  constexpr char kBegin[] = "the input was \"";
  Write(kBegin, sizeof kBegin - 1);
  for (const char c : current) {
    const auto byte = static_cast<unsigned char>(c);
    const char hex[] = {'\\', 'x', "0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    const bool plain = byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\';
    plain ? Write(&c, 1) : Write(hex, sizeof hex);
  }
  Write("\"\n", 2);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void Run(std::string input) {
  current = std::move(input);
  // A copy of its own size: a read beyond it is seen by the address sanitizer.
  const std::vector<uint8_t> bytes(current.begin(), current.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

class Mutator {
 public:
  Mutator(std::vector<std::string> corpus, uint64_t seed) : corpus_(std::move(corpus)), random_(seed) {}

  std::string Next() {
    std::string text = corpus_[Below(corpus_.size())];
    for (size_t changes = 1 + Below(4); changes > 0; --changes) Change(text);
    text.resize(std::min(text.size(), kMaxBytes));
    return text;
  }

 private:
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  // A part of some text, so that things get into places where they do not belong.
  std::string Piece(const std::string& of) {
    const size_t begin = Below(of.size());
    return of.substr(begin, 1 + Below(16));
  }

  void Change(std::string& text) {
    static const char* const kTokens[] = {"0",  "-1",      "18446744073709551616",
                                          "\"", "\\u0000", "\xff",
                                          "{",  "]",       "\n",
                                          "%0", "%",       "\\ud800",
                                          "=",  ":",       "@",
                                          "?",  "/",       "\r\n"};
    const size_t at = Below(text.size() + 1);
    switch (Below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
        break;
      case 1:
        text.erase(at, 1 + Below(8));
        break;
      case 2:
        text.insert(at, kTokens[Below(std::size(kTokens))]);
        break;
      case 3:
        text.insert(at, Piece(corpus_[Below(corpus_.size())]));
        break;
      case 4:
        text.replace(at, Below(8), Piece(text + " "));
        break;
      default:
        text.resize(at);
    }
  }

  const std::vector<std::string> corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s FOLDER RUNS [SEED]\n", argv[0]);
    return 64;
  }
  const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, PrintInput);

  std::vector<std::filesystem::path> paths;
  for (const auto& file : std::filesystem::directory_iterator(argv[1])) paths.push_back(file.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    Run(corpus.back());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s has no files\n", argv[1]);
    return 1;
  }
  Run("");
  const size_t files = corpus.size();
  const unsigned long runs = std::strtoul(argv[2], nullptr, 10);
  std::printf("%zu files, then %lu mutations with seed %llu\n", files, runs, static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  Mutator mutator(std::move(corpus), seed);
  for (unsigned long i = 0; i < runs; ++i) Run(mutator.Next());
  return 0;
}
