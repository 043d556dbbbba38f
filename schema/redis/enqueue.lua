-- ENQUEUE: a job enters unless this very generation of it is still here. Answers 1 (new), 0 (here
-- already) or -1 (the queue is being drained: not taken).
-- KEYS: queue's stream, seen:<uuid>.<gen>, ctl:<queue>.  ARGV: the entry's fields.
-- seen has no expiry: DONE removes it. An entry's own time is its enqueued_ms.
if redis.call('EXISTS', KEYS[2]) == 1 then
    return 0
end
if redis.call('GET', KEYS[3]) == 'draining' then
    return -1
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV))
redis.call('SET', KEYS[2], '')
return 1
