#ifndef WHOPLINE_JOB_LIST_H
#define WHOPLINE_JOB_LIST_H
/* A list of jobs, linked by their own next and prev: a job is in one list at a time. */
#include "service/queue.h"

struct job_list {
    struct job *first;
    struct job *last;
    size_t count;
};

void job_list_add(struct job_list *list, struct job *job); /* at the end */
void job_list_remove(struct job_list *list, struct job *job);
struct job *job_list_find(const struct job_list *list, struct span entry); /* NULL: not there */
struct job *job_list_take(struct job_list *list); /* the first one; NULL: empty */
void job_list_free(struct job_list *list);        /* and the jobs */

#endif
