/* Looking a member up in a JSON object that is known to be well formed. */
#ifndef JSON_H
#define JSON_H

#include "text.h"

/* The value as it stands, quotes included; empty where the object has no such member. */
Slice json_member(Slice object, const char *name);

#endif
