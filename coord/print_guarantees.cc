// Prints docs/guarantees.md.

#include <cstdio>

#include "coord/guarantees.h"

int main() { std::fputs(coord::GuaranteesMarkdown(coord::AllGuarantees()).c_str(), stdout); }
