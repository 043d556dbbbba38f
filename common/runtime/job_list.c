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

struct job *job_list_find(const struct job_list *list, struct span entry)
{
    struct job *job = list->first;
    while (job != NULL && !span_equal(span_of(job->entry), entry))
        job = job->next;
    return job;
}

struct job *job_list_take(struct job_list *list)
{
    struct job *job = list->first;
    if (job != NULL)
        job_list_remove(list, job);
    return job;
}

void job_list_free(struct job_list *list)
{
    struct job *job;
    while ((job = job_list_take(list)) != NULL)
        job_free(job);
}
