#ifndef WHOPLINE_RUN_H
#define WHOPLINE_RUN_H
/* Between the loop and the slots, inside the runtime.
 *
 * A run is what a slot takes at once: one or several jobs of one kind, or a task of the runtime's
 * own. The loop owns it but while a slot runs it; then it may only look at, and ask through, what
 * is marked as shared. Slot threads end when they are told to and have nothing to run. */
#include "runtime/gate.h"
#include "runtime/outside_face.h"
#include "runtime/verdict.h"
#include "runtime/worker.h"

#include <pthread.h>
#include <stdatomic.h>

enum { RUN_JOBS_MAX = 128 };

enum run_kind {
    RUN_JOBS,
    RUN_CHECK, /* is the database there and its schema ours? */
};

struct run_job {
    struct job *job;
    struct verdict verdict;
    int64_t run_us;       /* what it took; of a batch its share */
    enum job_state ended; /* VERDICT_DONE: as its handler wanted it */
    enum err_class class; /* VERDICT_RETRY: of the error */
    bool has_row;         /* in PostgreSQL, where the verdict is written */
    bool settled;         /* judged before it began: its tenant is held */
    bool released;        /* not begun: the process stops, or the queue is paused */
    atomic_bool lost; /* shared: another consumer has its entry, so there is nothing to settle */
};

struct run {
    enum run_kind kind;
    const struct handler *handler; /* for all of its jobs; NULL: no kind of this release */
    struct run_job jobs[RUN_JOBS_MAX];
    size_t count;
    struct err err;        /* RUN_CHECK: what came of it */
    bool held;             /* RUN_CHECK: an operator has paused the queue */
    bool database_is_down; /* some job met PG_DOWN */
};

struct slots; /* all slot threads of a process */

/* How a slot asks the loop to give jobs to Redis, waiting for the answer. */
struct relay_request {
    const struct outgoing *jobs;
    size_t count;
    size_t left;
    bool failed;
    struct slot_thread *from;
};

/* Why a job is to stop. */
enum stop_reason { STOP_OVERRUN, STOP_LOST };

struct slot_thread {
    struct slot slot;
    struct slots *slots;
    pthread_t thread;
    /* What it waits for. A mutex of its own: whoever is woken would otherwise queue for the mailbox
     * behind all others. */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct run run;
    bool busy;    /* with the mutex: the run is the slot's */
    bool relayed; /* with the mutex: the relay request has been answered */
    bool ending;  /* with the mutex: it is to end */
    struct relay_request relay;
    struct outside outside;         /* slot.outside, for a worker that calls out */
    struct outside_request request; /* with the mutex: what it asks of the loop */

    /* Shared. Places in the run count from 1; 0 is none. A batch is in place 1 as a whole. */
    atomic_size_t place;      /* of the job that runs */
    atomic_llong since_ms;    /* clock_mono_ms when it began */
    atomic_size_t stop_place; /* the loop wants this one to stop (the last one it wanted to) */
    atomic_int stop_reason;
};

/* Messages to the loop, in order. */
struct slots {
    const struct worker *worker;
    const struct config *config;
    struct gate gate;
    struct slot_thread *threads;
    size_t count;
    atomic_bool stopping; /* begin no further job, until it is false again */
    /* The mailbox: filled by slots, emptied by the loop; capacity: one of each per slot. */
    pthread_mutex_t mutex;
    struct slot_thread **finished;
    size_t finished_count;
    struct relay_request **relays;
    size_t relay_count;
    struct outside_request **asked;
    size_t asked_count;
    struct outside_shared *shared; /* NULL for a worker that does not call out */
    atomic_bool hurry;             /* the process ends: no call to the outside goes on */
    pthread_mutex_t figures_mutex;
    struct figures figures;     /* with it: all that was committed */
    void (*notify)(void *data); /* called by slots, any thread: there is something to take */
    void *data;
};

/* run.c: runs thread->run and fills in its verdicts. Slot thread. */
void run_execute(struct slot_thread *thread);
/* judge.c: from the handler's answer to a verdict that the loop can settle, and that the job's row
 * has, if it has one. Slot thread. */
void judge_job(struct slot_thread *thread, struct run_job *item, struct err err);
/* gate.c: settles those of thread->run whose tenants are held. Slot thread, before they begin. */
void gate_hold_run(struct slot_thread *thread);
/* Slot thread: what the job has counted counts, if it has committed; else it is forgotten. */
void slots_count(struct slot_thread *thread);
/* Loop: the worker's own figures, of all slots. */
void slots_write(struct slots *slots, struct metric_page *page);
/* Slot thread: has the loop give the jobs to Redis, and waits; thread->relay.failed tells. */
void slots_relay(struct slot_thread *thread, const struct outgoing *jobs, size_t count);

void slots_start(struct slots *slots, const struct worker *worker, const struct config *config,
                 void (*notify)(void *data), void *data);
/* Loop: hands thread->run over. */
void slots_hand_over(struct slot_thread *thread);
/* Loop: asks for the end of what runs in that place; no harm if it is over. */
void slots_stop_job(struct slot_thread *thread, size_t place, enum stop_reason reason);
/* Loop: a call to the outside that is to stop does so; part of the above. */
void slots_stop_outside(struct slot_thread *thread);
/* Loop: the answer to a relay request. */
void slots_answer_relay(struct relay_request *request);
/* Loop: takes what has come; each array has slots->count places. */
void slots_take(struct slots *slots, struct slot_thread **finished, size_t *finished_count,
                struct relay_request **relays, size_t *relay_count);
/* Loop: the same for calls to the outside. Returns how many. */
size_t slots_take_asked(struct slots *slots, struct outside_request **asked);

/* slot_outside.c: what handlers call out with. */
void slot_outside_init(struct slot_thread *thread);
/* Whether what the slot runs is to stop. Any thread; for the loop, of the job that asked. */
bool slot_outside_is_stopped(const struct slot_thread *thread);
/* Loop: the answer to what a slot has asked is there. */
void slot_outside_answer(struct outside_request *request);

/* Ends and joins all threads; none may be busy. */
void slots_end(struct slots *slots);

#endif
