#ifndef WHOPLINE_FAULT_H
#define WHOPLINE_FAULT_H
/* Named points at which a test makes the process fail: FAULT=point:action[,point:action...].
 *
 * Actions: kill (SIGKILL to itself), kill@N (the N-th time it comes by), fail and fail@N (FAULT
 * returns true and the caller behaves as if the step had failed). Not compiled into release builds:
 * there FAULT is false and no text of it remains in the binary. Any thread.
 *
 * The names are listed in schema/faults.def; an unknown one in the variable is refused at start. */
#include <stdbool.h>

#ifdef WHOPLINE_FAULTS
bool fault_hit(const char *point);
void fault_load(const char *specification); /* NULL or "": none; ends the process if malformed */
#define FAULT(point) fault_hit(#point)
#else
#define FAULT(point) false
#endif

#endif
