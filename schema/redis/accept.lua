-- ACCEPT: an event enters once. Answers 1 (new) or 0 (seen before).
-- KEYS: events stream, seen:<event id>.  ARGV: seconds to remember it, then the entry's fields.
if redis.call('EXISTS', KEYS[2]) == 1 then
    return 0
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
redis.call('SET', KEYS[2], '', 'EX', ARGV[1])
return 1
