// Everything of coord in one include, and the way to open a store and what carries events.

#ifndef COORD_COORD_H_
#define COORD_COORD_H_

#include "coord/cluster.h"
#include "coord/open_events.h"
#include "kv/open.h"

#endif  // COORD_COORD_H_
