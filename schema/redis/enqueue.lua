-- ENQUEUE: a job enters unless this very generation of it is still here. Answers 1 (new), 0 (here
-- already) or -1 (the queue is being drained: not taken).
-- KEYS: queue's stream, ctl:<queue>, and seen:<uuid>.<gen> unless the job is volatile, which is
-- nobody's to repeat.  ARGV: the entry's fields.
-- seen has no expiry: DONE removes it. An entry's own time is its enqueued_ms.
if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
end
if redis.call('GET', KEYS[2]) == 'draining' then
    return -1
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV))
if KEYS[3] then
    redis.call('SET', KEYS[3], '')
end
return 1
