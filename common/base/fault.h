#ifndef WHOPLINE_FAULT_H
#define WHOPLINE_FAULT_H
/* Named points at which a test makes the process fail: FAULT=point:action[,point:action...].
 *
 * Actions: kill (SIGKILL to itself), stop (SIGSTOP: it waits until it is sent SIGCONT), fail (FAULT
 * returns true and the caller behaves as if the step had failed); kill@N and so on: only the N-th
 * time it comes by. Not compiled into release builds:
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
