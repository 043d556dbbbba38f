-- ENQUEUE: a job enters unless this very generation of it is still here. Answers 1 (new), 0 (here
-- already) or -1 (the queue is being drained: not taken).
-- KEYS: queue's stream, ctl:<queue>, and unless the job is volatile, which is nobody's to repeat:
-- seen:<uuid>.<gen>, :z.  ARGV: '1' for a job that may have been offered before, then the entry's
-- fields, of which the first is the job's id.
-- seen has no expiry: DONE removes it. It holds the entry it was made for, so that it can be looked
-- for when the job is offered again: a stream may have been deleted. (PROMOTE and RELEASE make new entries
-- and leave seen as it is: then the job comes in twice, and its row decides.)
local known = KEYS[3] and redis.call('GET', KEYS[3])
if known then
    local here = ARGV[1] ~= '1' or known == '' or redis.call('ZSCORE', KEYS[4], ARGV[3])
    if here or #redis.call('XRANGE', KEYS[1], known, known) > 0 then
        return 0
    end
end
if redis.call('GET', KEYS[2]) == 'draining' then
    return -1
end
local entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
if KEYS[3] then
    redis.call('SET', KEYS[3], entry)
end
return 1
