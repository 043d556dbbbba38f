#include "runtime/job_list.h"

void job_list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    job->prev = list->last;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
    list->count++;
}

void job_list_remove(struct job_list *list, struct job *job)
{
    if (job->prev != NULL)
        job->prev->next = job->next;
    else
        list->first = job->next;
    if (job->next != NULL)
        job->next->prev = job->prev;
    else
        list->last = job->prev;
    job->next = job->prev = NULL;
    list->count--;
}

bool job_list_has(const struct job_list *list, struct span entry)
{
    for (const struct job *job = list->first; job != NULL; job = job->next)
        if (span_equal(span_of(job->entry), entry))
            return true;
    return false;
}
