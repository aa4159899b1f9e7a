// Everything of coord in one include, and the way to open a store.

#ifndef COORD_COORD_H_
#define COORD_COORD_H_

#include "coord/cluster.h"
#include "kv/open.h"

#endif  // COORD_COORD_H_
