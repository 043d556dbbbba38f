#ifndef WHOPLINE_CLOCK_H
#define WHOPLINE_CLOCK_H
/* This machine's clocks. Leases are decided by Redis' clock, schedules by PostgreSQL's and versions
 * by the sender's; these serve time-outs, signature windows and log lines. Any thread. */
#include <stdint.h>

int64_t clock_wall_ms(void); /* Unix time */
int64_t clock_mono_ms(void); /* never steps back; for intervals */
int64_t clock_mono_us(void); /* the same in microseconds; for what is over sooner */

#endif
